"""What to say about flags that no command has: which flag means what they mean elsewhere."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence

from ..generation import for_option
from .arguments import FLAGS, with_flags

__all__ = ["refuse_unknown"]

_PROMPT = "the prompt is an argument of its own, without a flag"
_TOKENS = "--max-new-tokens is how many tokens, --num-return-sequences how many texts"
ELSEWHERE = {
    "n": _TOKENS,
    "t": "use --num-threads",
    "p": _PROMPT,
    "prompt": _PROMPT,
    "f": "use --input",
    "file": "use --input",
    "prompts_file": "use --input",
    "o": "use --output",
    "e": "a prompt is taken as it is; --stop knows escape sequences in any case",
    "escape": "a prompt is taken as it is; --stop knows escape sequences in any case",
    "stream": "one prompt's text is printed as it comes: leave it out",
    "streamer": "one prompt's text is printed as it comes: leave it out",
    "batch_size": "use --max-batch-size",
    "max_num_seqs": "use --max-batch-size",
    "np": "use --max-batch-size",
    "parallel": "use --max-batch-size",
    "served_model_name": "neort serve --bundle NAME=BUNDLE names a model",
    "a": "neort serve --bundle NAME=BUNDLE names a model",
    "revision": "NAME@REVISION names a branch, tag or commit",
    "quantization": "use --format",
    "local_dir": "HF_HUB_CACHE in the environment names another cache",
    "token": "HF_TOKEN in the environment has it, since other users of the machine see a command's arguments",
    "alias": "neort serve --bundle NAME=BUNDLE names a model",
    "api_key": "use --api-key-file, since other users of the machine see a command's arguments",
    "chat_template_file": "use --chat-template",
    "slot_save_path": "use --prefix-folder",
    "workers": "one process serves all CPUs that --num-threads says",
    "ssl_keyfile": "a proxy in front, whose name --allowed-host has, speaks TLS",
    "ssl_certfile": "a proxy in front, whose name --allowed-host has, speaks TLS",
    "allowed_origins": "no page of another site may ask; --allowed-host is for names of this server",
}
IN_PYTHON = ("Model.", "neort.load", "logits_processor", "configure_session", "max_cache_bytes", "prefix_cache_bytes")


def refuse_unknown(parser: argparse.ArgumentParser, unknown: Sequence[str]) -> None:
    """End with the usage and a sentence about the first unknown flag, if there are arguments that no command has."""
    if not unknown:
        return
    flag = next((argument for argument in unknown if argument.startswith("-")), None)
    told = "" if flag is None else f"; {_hint(parser, flag.partition('=')[0])}"
    parser.error(f"unrecognized arguments: {' '.join(unknown)}{told}")


def _hint(parser: argparse.ArgumentParser, flag: str) -> str:
    name = flag.lstrip("-").replace("-", "_")
    known = [each for action in parser._actions for each in action.option_strings]
    if name in FLAGS:
        return f"use {FLAGS[name]}" if FLAGS[name] in known else "neort generate has it"
    told = ELSEWHERE.get(name)
    if told is not None and set(re.findall(r"--[\w-]+", told)) <= {*known}:
        return told
    said = for_option(name, []).removeprefix("neort.load takes it: ")
    if not said.startswith("known options"):
        return _as_flags(said)
    names = {each.lstrip("-"): each for each in known}  # dashes are no likeness
    close = difflib.get_close_matches(flag.lstrip("-"), names, n=1)
    return f"did you mean {names[close[0]]}?" if close else f"{parser.prog} --help lists what there is"


def _as_flags(sentence: str) -> str:
    """A sentence about Python's names as one about the command line's."""
    if any(name in sentence for name in IN_PYTHON):
        return f"in Python, {sentence}"
    sentence = sentence.replace("do_sample=True", "--do-sample").replace(
        'overflow="truncate_left"', "--overflow truncate_left"
    )
    sentence = re.sub(r"(?<=\buse )\w+", lambda word: FLAGS.get(word[0], word[0]), sentence)
    return with_flags(sentence)
