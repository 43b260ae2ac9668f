"""Damages every file of a bundle in every way, loads it, and generates: ``python tests/fuzz/bundles.py --cases 20000``.

Each case is a number: the same number is the same damage. A raw case changes one file and nothing else; a rehashed one
makes the manifest's hashes and its own checksum fit again, as whoever changed the bundle on purpose would. Cases that
load are compared with the sound bundle, tokens and logits bit for bit.
"""

from __future__ import annotations

import functools
import hashlib
import json
import random
import shutil
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from messages import MESSAGES
from mutations import BYTES, JSON, Mutation, mutated
from supervisor import HANG, TRACEBACK, Result, limit_memory, run_command, serve, supervise

if TYPE_CHECKING:
    from neort.kvcache import CacheType

__all__ = ["OTHER", "REFUSED", "SAME", "Case", "command", "run_cases", "unexpected"]

REFUSED = "refused"
REFUSED_LATER = "refused by a run"
SAME = "same output"
OTHER = "other output"
BAD_MESSAGE = "bad message"
FORBIDDEN = (TRACEBACK, HANG, BAD_MESSAGE, "noise on stdout")  # and every signal and exit

RAW, REHASHED = "raw", "rehashed"
MANIFEST, PREFIX, GENERATION = "manifest.json", "a.prefix", "generation_config.json"
OPTIONS = {
    "max_new_tokens": 2,
    "min_new_tokens": 1,
    "do_sample": True,
    "temperature": 0.7,
    "top_k": 5,
    "top_p": 0.9,
    "repetition_penalty": 1.1,
    "eos_token_id": [0, 1],
    "stop_strings": ["xyzzy"],
    "num_beams": 1,
}  # that a generation_config.json may have, and the bundled one has not
SECONDS = 60.0  # a case takes a tenth of a second
MEMORY = 6 << 30  # bytes of address space
LONGEST_MESSAGE = 2500
PROMPT = "The captain said nothing, but walked up and down the deck. My dear, said she, and then the rain began. " * 9

# How often each file is damaged.
WEIGHT = {
    MANIFEST: 6,
    "decoder.onnx": 6,
    "tokenizer.json": 4,
    GENERATION: 3,
    "decoder_int8_cache.onnx": 3,
    PREFIX: 3,
    "weights.data": 2,
    "config.json": 1,
    "model.onnx": 1,
    "verification.json": 1,
}


@dataclass(frozen=True)
class Case:
    """One damage: which file, how, and whether the hashes are made to fit."""

    number: int
    file: str
    mode: str
    family: str
    mutation: str

    @property
    def kind(self) -> str:
        """The row of the table."""
        return f"{self.mode}, {self.file}: {self.family}"

    @classmethod
    def of(cls, number: int) -> Case:
        """The case of a number."""
        chance = random.Random(number)
        file = chance.choices(list(WEIGHT), list(WEIGHT.values()))[0]
        families = {"bytes": BYTES}
        if file.endswith(".json"):
            families["JSON"] = JSON
        if file.endswith(".onnx"):
            families["protobuf"] = MESSAGES
        family = chance.choice(list(families)[-1:] * 2 + ["bytes"])
        mode = chance.choice((RAW, REHASHED, REHASHED))
        return cls(number, file, mode, family, chance.choice(list(families[family])))

    def damaged(self, contents: bytes) -> bytes:
        """The file's contents after the damage."""
        families: dict[str, dict[str, Mutation]] = {"bytes": BYTES, "JSON": JSON, "protobuf": MESSAGES}
        return mutated(self.mutation, families[self.family], contents, random.Random(~self.number))


class Lab:
    """A copy of the bundled model that is damaged and mended again, case by case."""

    def __init__(self, folder: Path) -> None:
        import neort

        self.neort = neort
        self.folder = folder / "bundle"
        shutil.copytree(neort.load(num_threads=1).bundle.path, self.folder)
        self.sound = {file.name: file.read_bytes() for file in self.folder.iterdir()}
        self.options = json.dumps({**json.loads(self.sound[GENERATION]), **OPTIONS}).encode()
        self.prefix_file = folder / PREFIX
        self.model = neort.load(self.folder, num_threads=1)
        with self.model.prefix("The captain said nothing") as prefix:
            prefix.save(self.prefix_file)
        self.prefix = self.prefix_file.read_bytes()

    @functools.cache  # noqa: B019  as few as there are caches
    def expected(self, kv_cache: CacheType) -> tuple[Any, ...]:
        """What the sound bundle gives."""
        return self.output(self.neort.load(self.folder, num_threads=1, kv_cache=kv_cache))

    def output(self, model: Any) -> tuple[Any, ...]:
        """Tokens, text and logits, past the window of local layers."""
        completion = model.generate(PROMPT, max_new_tokens=3, do_sample=False, repetition_penalty=None)
        logits = model.logits([1, 2, 3, *completion.token_ids])
        return completion.token_ids, completion.text, logits.tobytes()

    def run(self, number: int) -> tuple[str, str, str]:
        """A case's kind, outcome and what was said."""
        case = Case.of(number)
        try:
            outcome, detail = self._prefix(case) if case.file == PREFIX else self._bundle(case)
        except BaseException:
            outcome, detail = TRACEBACK, traceback.format_exc()
        return case.kind, outcome, f"{case.mutation}: {detail}"

    def _bundle(self, case: Case) -> tuple[str, str]:
        kv_cache: CacheType = "int8" if "int8" in case.file or case.number % 5 == 0 else "fp32"
        expected = self.expected(kv_cache)
        contents = case.damaged(self.options if case.file == GENERATION else self.sound[case.file])
        written = {case.file: contents}
        if case.mode == REHASHED:
            written[MANIFEST] = rehashed(self.sound[MANIFEST], case.file, contents)
        try:
            for name, data in written.items():
                replace(self.folder / name, data)
            return self._outcome(lambda: self._load(kv_cache, case.mode), expected)
        finally:
            for name in written:
                replace(self.folder / name, self.sound[name])

    def _load(self, kv_cache: CacheType, mode: str) -> Any:
        return self.neort.load(self.folder, num_threads=1, kv_cache=kv_cache, check_weights=mode == RAW)

    def _outcome(self, load: Callable[[], Any], expected: tuple[Any, ...]) -> tuple[str, str]:
        outcome = REFUSED
        try:
            model = load()
            outcome = REFUSED_LATER
            model.generate("The", seed=0)  # by the bundle's own options
            return (SAME if self.output(model) == expected else OTHER), ""
        except self.neort.NeortError as error:
            return judged(outcome, error, [*self.sound, str(self.folder)])

    def _prefix(self, case: Case) -> tuple[str, str]:
        contents = case.damaged(self.prefix)
        if case.mode == REHASHED:
            contents = contents[:-32] + hashlib.sha256(contents[:-32]).digest()
        replace(self.prefix_file, contents)
        try:
            self.model.load_prefix(self.prefix_file).close()
        except self.neort.NeortError as error:
            return judged(REFUSED, error, [PREFIX])
        return (SAME if contents == self.prefix else OTHER), ""


def judged(outcome: str, error: Exception, names: list[str]) -> tuple[str, str]:
    """The outcome, or that the message is none that a user can be shown."""
    message = str(error)
    try:
        message.encode()
    except UnicodeEncodeError:
        return BAD_MESSAGE, f"no UTF-8: {message!r}"
    named = outcome == REFUSED_LATER or any(name in message for name in names)
    if len(message) > LONGEST_MESSAGE or not named:
        return BAD_MESSAGE, f"{len(message)} characters, or names no file: {message[:300]!r}"
    return outcome, f"{type(error).__name__}: {message}"


def replace(file: Path, contents: bytes) -> None:
    """Write a file anew: sessions may have the old one in memory."""
    file.unlink(missing_ok=True)
    file.write_bytes(contents)


def rehashed(manifest: bytes, file: str, contents: bytes) -> bytes:
    """The manifest with the right facts about a file, and about itself; as it is where it cannot be read."""
    from neort.bundle import manifest_checksum

    try:
        document = json.loads(contents if file == MANIFEST else manifest)
        if file != MANIFEST:
            document["files"][file] = {"bytes": len(contents), "sha256": hashlib.sha256(contents).hexdigest()}
        if "sha256" in document:
            document["sha256"] = manifest_checksum(document)
        return json.dumps(document).encode()
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return contents if file == MANIFEST else manifest


def command() -> list[str]:
    """What starts a worker."""
    return [sys.executable, __file__, "--serve"]


def run_cases(cases: range, processes: int) -> Iterator[Result]:
    """Yield the results of cases as they come."""
    return supervise(command(), cases, seconds=SECONDS, processes=processes, kind_of=lambda case: Case.of(case).kind)


def unexpected(results: list[Result]) -> list[Result]:
    """The results that must not be: anything but an error of neort's or output, and raw damage that gives another."""
    fine = {REFUSED, REFUSED_LATER, SAME, OTHER}
    return [r for r in results if r.outcome not in fine or (r.outcome == OTHER and r.kind.startswith(RAW))]


def _serve() -> None:
    warnings.simplefilter("ignore")
    limit_memory(MEMORY)
    with tempfile.TemporaryDirectory() as folder:
        serve(Lab(Path(folder)).run)


if __name__ == "__main__":
    sys.exit(run_command(__doc__, 1000, _serve, run_cases, unexpected))
