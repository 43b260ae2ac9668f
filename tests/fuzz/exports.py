"""Damages every file of small checkpoints in every way and exports them: ``python tests/fuzz/exports.py --cases 3000``.

Each case is a number: the same number is the same damage. Most cases go through the early stages alone: the checkpoint
is opened, its tokenizer and options are written, all its tensors are read and compared with those that the library of
their format reads. Some are exported, loaded and asked for logits, which are compared with those of transformers' own
model with the same configuration and tensors.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).parents[1] / "support"))

from mutations import BYTES, JSON, Mutation, mutated
from supervisor import TRACEBACK, Result, limit_memory, run_command, serve, supervise

if TYPE_CHECKING:
    from neort_export.checkpoint import Checkpoint

__all__ = ["Case", "run_cases", "unexpected"]

REFUSED = "refused"
EQUAL = "equal to torch"
OTHER = "other weights, equal to torch"
WRONG = "not what torch computes"
BAD_MESSAGE = "bad message"

SECONDS = 600.0  # a case takes a tenth of a second, a whole export some; a busy machine, many times as long
MEMORY = 16 << 30  # bytes of address space, of which torch takes much without using it
LONGEST_MESSAGE = 2500
WHOLE = 0.02  # of the cases are exported
IDS = list(range(3, 40))  # past the window
LARGEST_DIFFERENCE = 2e-3  # of logits relative to the largest: float32 rounds far less

# The forms of a checkpoint, and how often each of its files is damaged.
FORMS: dict[str, dict[str, int]] = {
    "safetensors": {
        "config.json": 6,
        "model.safetensors": 6,
        "tokenizer.json": 4,
        "generation_config.json": 3,
        "tokenizer_config.json": 1,
    },
    "shards": {"model.safetensors.index.json": 2, "model-00002-of-00005.safetensors": 1},
    "pickle": {"pytorch_model.bin": 3},
    "old tokenizer": {"vocab.json": 2, "merges.txt": 1, "tokenizer_config.json": 1, "config.json": 1},
}
HEADER = "header"  # of a safetensors file whose length is made to fit


@dataclass(frozen=True)
class Case:
    """One damage: which file of which form of a checkpoint, how, and whether it is exported to the end."""

    number: int
    form: str
    file: str
    family: str
    mutation: str
    whole: bool

    @property
    def kind(self) -> str:
        """The row of the table."""
        return f"{self.form}, {self.file}: {self.family}{', whole export' if self.whole else ''}"

    @classmethod
    def of(cls, number: int) -> Case:
        """The case of a number."""
        chance = random.Random(number)
        places = [(form, file, weight) for form, files in FORMS.items() for file, weight in files.items()]
        form, file, _ = chance.choices(places, [weight for *_, weight in places])[0]
        families = {"bytes": BYTES}
        if file.endswith(".json"):
            families["JSON"] = JSON
        if file.endswith(".safetensors"):
            families[HEADER] = JSON
        family = chance.choice(list(families)[-1:] * 2 + ["bytes"])
        mutation = chance.choice(list(families[family]))
        return cls(number, form, file, family, mutation, chance.random() < WHOLE)

    def damaged(self, contents: bytes) -> bytes:
        """The file's contents after the damage."""
        chance = random.Random(~self.number)
        mutations: dict[str, Mutation] = BYTES if self.family == "bytes" else JSON
        if self.family != HEADER:
            return mutated(self.mutation, mutations, contents, chance)
        stop = 8 + int.from_bytes(contents[:8], "little")
        header = mutated(self.mutation, mutations, contents[8:stop], chance)
        return len(header).to_bytes(8, "little") + header + contents[stop:]


class Lab:
    """Checkpoints of each form that are damaged and mended again, case by case."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for form in FORMS:
            make_checkpoint(form, folder / form)
        self.sound = {(form, file.name): file.read_bytes() for form in FORMS for file in (folder / form).iterdir()}

    def run(self, number: int) -> tuple[str, str, str]:
        """A case's kind, outcome and what was said."""
        case = Case.of(number)
        before = self.sound[case.form, case.file]
        contents = case.damaged(before)
        place = self.folder / case.form
        (place / case.file).write_bytes(contents)
        try:
            outcome, detail = self._outcome(case, place)
        except BaseException:
            outcome, detail = TRACEBACK, traceback.format_exc()
        finally:
            (place / case.file).write_bytes(before)
        return case.kind, outcome, f"{case.mutation}: {detail}"

    def _outcome(self, case: Case, place: Path) -> tuple[str, str]:
        from neort.errors import NeortError

        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            try:
                if case.whole:
                    wrong = export_whole(place, Path(scratch), verify=case.number % 3 == 0)
                else:
                    wrong = export_early(place, Path(scratch))
            except NeortError as error:
                return judged(error, place)
        if wrong:
            return WRONG, wrong
        return (EQUAL if (place / case.file).read_bytes() == self.sound[case.form, case.file] else OTHER), ""


def make_checkpoint(form: str, folder: Path) -> None:
    """Write a random checkpoint of two layers in one of the forms."""
    import torch
    from safetensors.torch import load_file

    from checkpoints import random_model, save

    save(random_model(), folder, **({"max_shard_size": "40KB"} if form == "shards" else {}))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer", "model_max_length": 128}')
    if form == "pickle":
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    if form == "old tokenizer":
        document = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        (folder / "vocab.json").write_text(json.dumps(document["model"]["vocab"]), encoding="utf-8")
        (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
        (folder / "tokenizer.json").unlink()


def export_early(place: Path, scratch: Path) -> str:
    """Open a checkpoint and read all of it; returns which tensor is not what its format's library reads."""
    import torch

    from neort_export.bundle import write_configs, write_tokenizer
    from neort_export.checkpoint import Checkpoint

    source = Checkpoint(place)
    write_configs(source, scratch)
    write_tokenizer(source, scratch)
    own = {name: source.tensor(name) for name in source.expected_shapes()}
    try:
        expected = library_tensors(source)
    except Exception as error:
        return f"the format's library refuses it: {error}"
    return next((name for name, tensor in own.items() if not torch.equal(tensor, expected[name])), "")


def export_whole(place: Path, scratch: Path, *, verify: bool) -> str:
    """Export a checkpoint and run the bundle; returns how far its logits are from those of transformers' model."""
    import numpy as np
    import torch

    import neort
    from neort_export import Limits, export
    from neort_export.checkpoint import Checkpoint

    none = Limits(mean_kl=float("inf"), perplexity_ratio=float("inf"))
    bundle = export(place, scratch / "bundle", quantization="fp32", limits=none, verify=verify).path
    actual = neort.load(bundle, num_threads=1).logits(IDS)
    source = Checkpoint(place)
    model = source.architecture.causal_lm(source.config)
    model.load_state_dict(library_tensors(source), strict=False)
    model.tie_weights()
    with torch.inference_mode():
        expected = model(torch.tensor([IDS])).logits[0].numpy()
    difference = float(np.abs(actual - expected).max()) / max(1.0, float(np.abs(expected).max()))
    return "" if difference <= LARGEST_DIFFERENCE else f"logits differ by {difference}"


def library_tensors(source: Checkpoint) -> dict[str, Any]:
    """A checkpoint's tensors in float32, as safetensors or torch read them, by the names of the whole model."""
    import torch
    from safetensors.torch import load_file

    state: dict[str, Any] = {}
    files = sorted(source.path.glob("*.safetensors"))
    for file in files:
        state |= load_file(file)
    if not files:
        state = torch.load(source.path / "pytorch_model.bin", weights_only=True, map_location="cpu")
    return {name: tensor.to(torch.float32) for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}


def judged(error: Exception, place: Path) -> tuple[str, str]:
    """The outcome of an error, or that its message is none that a user can be shown."""
    message = str(error)
    try:
        message.encode()
    except UnicodeEncodeError:
        return BAD_MESSAGE, f"no UTF-8: {message!r}"
    if "\n" in message or len(message) > LONGEST_MESSAGE or str(place) not in message:
        return BAD_MESSAGE, f"{len(message)} characters, several lines, or names no file: {message[:600]!r}"
    return REFUSED, f"{type(error).__name__}: {message}"


def run_cases(cases: range, processes: int) -> Iterator[Result]:
    """Yield the results of cases as they come."""
    command = [sys.executable, __file__, "--serve"]
    return supervise(command, cases, seconds=SECONDS, processes=processes, kind_of=lambda case: Case.of(case).kind)


def unexpected(results: list[Result]) -> list[Result]:
    """The results that must not be: anything but an error of neort's or an export that is equal to torch."""
    return [result for result in results if result.outcome not in (REFUSED, EQUAL, OTHER)]


def _serve() -> None:
    warnings.simplefilter("ignore")
    limit_memory(MEMORY)
    import torch

    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp())
    try:
        serve(Lab(folder).run)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(run_command(__doc__, 300, _serve, run_cases, unexpected))
