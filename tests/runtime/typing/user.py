"""What a user writes: mypy --strict must accept every line, and know the types that are asserted."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Unpack, assert_type

import numpy as np
from numpy.typing import NDArray

import neort

model = neort.load()
assert_type(model, neort.Model)

# One prompt, one completion
assert_type(model.generate("Once"), neort.Completion)
assert_type(model.generate([1, 2, 3]), neort.Completion)
assert_type(model.generate(np.array([1, 2, 3])), neort.Completion)
assert_type(model.generate("Once", neort.GenerationConfig(seed=1)), neort.Completion)
assert_type(model.generate("Once", max_new_tokens=4, do_sample=True, top_p=0.9, seed=0).text, str)
assert_type(model.generate("Once").finish_reason, neort.FinishReason)

# A list of prompts, or several sequences
assert_type(model.generate(["Once", "Twice"]), list[neort.Completion])
assert_type(model.generate(["Once", [1, 2], np.array([3])]), list[neort.Completion])
assert_type(model.generate("Once", do_sample=True, num_return_sequences=2), list[neort.Completion])
assert_type(model.generate([1, 2], do_sample=True, num_return_sequences=2), list[neort.Completion])
assert_type(model.generate(["Once", "Twice"], do_sample=True, num_return_sequences=2), list[neort.Completion])
prompts: list[neort.Prompt] = ["Once", [1, 2]]
assert_type(model.generate(prompts), list[neort.Completion])
assert_type(model.generate(("Once", "Twice")), list[neort.Completion])

# Options, as documented
model.generate("Once", stop_strings=["a"], eos_token_id=[1, 2])
model.generate("Once", stop_strings="a", eos_token_id=1)
config = neort.GenerationConfig(stop_strings=["a"], eos_token_id=[1, 2], overflow="truncate_left", top_k=None)
assert_type(config.eos_token_ids, tuple[int, ...])
assert_type(config.stops, tuple[str, ...])
assert_type(config.replace(do_sample=True, temperature=0.7), neort.GenerationConfig)
options: neort.GenerationOptions = {"max_new_tokens": 4}
assert_type(model.generate("Once", **options), neort.Completion)
assert_type(model.generate(["Once"], **options), list[neort.Completion])
assert_type(model.generate("Once", num_return_sequences=1, **options), list[neort.Completion])


def either(prompt: str | list[str]) -> None:
    assert_type(model.generate(prompt), neort.Completion | list[neort.Completion])


def passed_on(prompt: str, **options: Unpack[neort.GenerationOptions]) -> str:
    return model.generate(prompt, **options).text


# Streams, logits, prefixes, checks
assert_type(model.stream("Once", max_new_tokens=4), Generator[neort.Piece, None, None])
assert_type(model.logits([1, 2, 3]), NDArray[np.float32])
with model.prefix("Once upon a time") as prefix:
    assert_type(prefix, neort.Prefix)
assert_type(neort.check(model.bundle.path), list[neort.Check])


def silence(token_id: int) -> neort.LogitsProcessor:
    """A processor of the user's own."""

    def process(ids: NDArray[np.int64], logits: NDArray[np.float32]) -> NDArray[np.float32]:
        changed = logits.copy()
        changed[token_id] = -np.inf
        return changed

    return process


def profiled(folder: str) -> Callable[[Any], None]:
    def configure(options: Any) -> None:
        options.enable_profiling = True
        options.profile_file_prefix = folder

    return configure


model.generate("Once", logits_processor=[silence(0)])
neort.load(num_threads=1, kv_cache="int8", draft="prompt-lookup", configure_session=profiled("profile"))

try:
    model.generate("")
except (neort.PromptError, neort.BusyError, neort.StorageError, neort.UnsupportedError) as error:
    message: str = str(error)
