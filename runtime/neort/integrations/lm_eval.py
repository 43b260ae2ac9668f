"""lm-evaluation-harness on a bundle: ``python -m neort.integrations.lm_eval`` is its command line with a model "neort".

    python -m neort.integrations.lm_eval --model neort --model_args bundle=DIR,num_threads=2 --tasks lambada_openai

In a program, importing this module registers the model. Figures are those of lm-eval's ``hf`` model: windows, the
cut between context and continuation, truncation from the left and stop strings are the same.
"""

from __future__ import annotations

import itertools
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from ..errors import ArgumentTypeError, ConfigError, MissingExtraError, NeortError
from ..generation import SAMPLING
from ..loading import load

try:
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
    from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
    from tqdm import tqdm
except ImportError as error:
    _MISSING = f"lm-eval cannot be imported ({error}); install it by: pip install 'neort[lm-eval]'"
    if __name__ == "__main__":
        raise SystemExit(f"neort.integrations.lm_eval: {_MISSING}") from None
    raise MissingExtraError(_MISSING) from error

__all__ = ["NeortLM", "main"]

Each = TypeVar("Each")

SLOTS = 16  # sequences that are read or decoded together
PORTION = 256  # requests after which their results go to lm-eval's cache


@register_model("neort")
class NeortLM(LM):  # type: ignore[misc]
    """A bundle as lm-eval knows models; its arguments are those of ``--model_args``."""

    def __init__(
        self,
        bundle: str | None = None,
        *,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        max_length: int | None = None,
        max_gen_toks: int = 256,
        seed: int = 1234,
        device: str | None = None,
        **loading: Any,
    ) -> None:
        """Load ``bundle``, with what else `neort.load` takes, such as ``num_threads`` and ``kv_cache``.

        ``batch_size`` is how many sequences may be read or decoded together; 1, which is lm-eval's own default, and
        "auto" stand for 16, since no figure depends on it. ``max_batch_size`` says it for certain. ``max_length``
        lowers how many tokens are read, ``seed`` is for requests that sample; ``device``, which lm-eval always gives,
        has no effect.

        Raises what `neort.load` does, and ConfigError for arguments out of range.
        """
        super().__init__()
        self.model = load(bundle, max_batch_size=max_batch_size or _slots(batch_size), **loading)
        positions = self.model.spec.max_position_embeddings
        if max_length is not None and not 1 <= max_length <= positions:
            raise ConfigError(f"max_length is {max_length}; it must be 1 to {positions}, the model's positions")
        self.max_length = max_length or positions
        self.max_gen_toks = max_gen_toks
        self._seed = seed
        self._texts = self.model.scorer(self.max_length)

    @property
    def tokenizer_name(self) -> str:
        """Tells lm-eval's cache of requests which tokenizer they are for."""
        return f"neort-{self.model.bundle.path.name}"

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-likelihood of each continuation after its context, and whether greedy decoding gives it."""
        results: dict[int, tuple[float, bool]] = {}
        pairs = [self._texts.pair(text, context, "truncate_left") for context, text in _arguments(requests)]
        groups = sorted(_groups(requests), key=lambda group: -len(pairs[group[0]].context))
        with _bar(sum(len(pair.read) for pair in pairs), "neort loglikelihood", disable_tqdm) as bar:
            for portion in _parts(groups, PORTION):
                scores = self._texts.scorer.score_options([[pairs[i] for i in group] for group in portion])
                indices = list(itertools.chain.from_iterable(portion))
                for i, score in zip(indices, scores, strict=True):
                    results[i] = (score.log_likelihood, score.is_greedy)
                    self.cache_hook.add_partial("loglikelihood", requests[i].args, results[i])
                bar.update(sum(len(pairs[i].read) for i in indices))
        return [results[i] for i in range(len(requests))]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of each document, by windows."""
        results: dict[int, float] = {}
        documents = [document for (document,) in _arguments(requests)]
        order = sorted(range(len(documents)), key=lambda i: -len(documents[i]))
        with _bar(sum(len(document) for document in documents), "neort rolling", disable_tqdm) as bar:
            for portion in _parts(order, SLOTS):
                full = [i for i in portion if documents[i]]
                found = self._texts.perplexities([documents[i] for i in full])
                results |= dict.fromkeys(portion, 0.0)  # of an empty document
                results |= {i: perplexity.log_likelihood for i, perplexity in zip(full, found, strict=True)}
                for i in portion:
                    self.cache_hook.add_partial("loglikelihood_rolling", requests[i].args, results[i])
                    bar.update(len(documents[i]))
        return [results[i] for i in range(len(requests))]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """What follows each context, up to the first stop string."""
        results: dict[int, str] = {}
        order = sorted(range(len(requests)), key=lambda i: (repr(requests[i].args[1]), -len(requests[i].args[0])))
        with _bar(len(requests), "neort generate_until", disable_tqdm) as bar:
            for _, same in itertools.groupby(order, key=lambda i: repr(requests[i].args[1])):
                for portion in _parts(same, PORTION):
                    results |= zip(portion, self._generate([requests[i].args for i in portion]), strict=True)
                    for i in portion:
                        self.cache_hook.add_partial("generate_until", requests[i].args, results[i])
                    bar.update(len(portion))
        return [results[i] for i in range(len(requests))]

    def _generate(self, arguments: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
        """Texts after contexts whose options are those of the first."""
        options = dict(normalize_gen_kwargs(arguments[0][1], self.max_gen_toks))
        stops = [stop for stop in options.pop("until") if stop]
        new_tokens = options.pop("max_gen_toks")
        if not options["do_sample"]:  # as transformers, which takes no notice of what is for sampling
            options = {name: value for name, value in options.items() if name not in SAMPLING}
        room = self.max_length - new_tokens
        if room < 1:
            raise ConfigError(
                f"max_gen_toks is {new_tokens}; it must be below the {self.max_length} positions, of which the context "
                "needs one"
            )
        prompts = [self._texts.encode(context)[-room:] for context, _ in arguments]
        try:
            completions = self.model.generate(
                [ids if len(ids) else np.array([self._texts.prefix]) for ids in prompts],
                max_new_tokens=new_tokens,
                stop_strings=stops,
                seed=self._seed,
                **options,
            )
        except ArgumentTypeError as error:
            raise ConfigError(f"the task's generation_kwargs ask for what neort does not have: {error}") from None
        return [postprocess_generated_text(completion.text, stops, None) for completion in completions]


def main(argv: Sequence[str] | None = None) -> None:
    """Run lm-eval's command line, which knows the model "neort" here; ``argv`` None means the process's arguments."""
    from lm_eval.__main__ import cli_evaluate

    if argv is not None:
        sys.argv[1:] = argv
    try:
        cli_evaluate()
    except NeortError as error:
        raise SystemExit(f"neort.integrations.lm_eval: {error}") from None


def _slots(batch_size: int | str | None) -> int:
    """How many slots lm-eval's batch size stands for. Raises ConfigError for what is no number."""
    text = str(batch_size or 1)
    if text == "auto" or text.startswith("auto:"):
        return SLOTS
    if not text.isdecimal():
        raise ConfigError(f'batch_size is {batch_size!r}; give a number, or "auto"')
    return int(text) if int(text) > 1 else SLOTS


def _arguments(requests: Sequence[Any]) -> list[tuple[Any, ...]]:
    return [request.args for request in requests]


def _groups(requests: Sequence[Any]) -> list[list[int]]:
    """The places of requests that belong to one document of a task and have the same context."""
    groups: defaultdict[tuple[Any, ...], list[int]] = defaultdict(list)
    for i, request in enumerate(requests):
        groups[request.task_name, request.doc_id, request.args[0]].append(i)
    return list(groups.values())


def _parts(values: Iterable[Each], size: int) -> Iterator[list[Each]]:
    """Lists of up to ``size`` values, one after the other."""
    rest = iter(values)
    while part := list(itertools.islice(rest, size)):
        yield part


def _bar(total: int, description: str, disable: bool) -> Any:
    return tqdm(total=total, desc=description, disable=disable, unit_scale=True)


if __name__ == "__main__":
    main()
