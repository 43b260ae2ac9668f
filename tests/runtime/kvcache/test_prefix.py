"""Prefixes of the bundled model: the logits of a cold prefill, bit for bit, also from a file."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neort
from neort import GenerationConfig, Model, PrefixError, PromptError, StorageError
from neort.arrays import Ids, Logits
from neort.backend import DecoderSession
from neort.engine import PREFILL_CHUNK, EngineCore, Request
from neort.generation import TokenChooser
from neort.kvcache import PrefixCache
from patience import PATIENCE


def kept_bytes(model: Model) -> int:
    """What the model's prefix cache takes."""
    model._engine.settle()
    assert model._engine.core.prefixes is not None
    return model._engine.core.prefixes.nbytes


@pytest.fixture(scope="module")
def text(model: Model) -> Ids:
    """512 tokens of real text."""
    ids = model.bundle.read_json("verification.json")["golden"]["token_ids"]
    return np.resize(np.array(ids, np.int64), model.spec.max_position_embeddings)


@pytest.fixture
def fresh(bundle_path: Path) -> Model:
    """The bundled model, with nothing kept."""
    return neort.load(bundle_path, num_threads=2)


@pytest.fixture
def without(bundle_path: Path) -> Model:
    """The bundled model, keeping nothing but pinned prefixes."""
    return neort.load(bundle_path, num_threads=2, prefix_cache_bytes=0)


class Recorder(TokenChooser):
    """A greedy chooser that writes down the logits from which it chooses."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Logits] = []

    def choose(self, ids: Ids, logits: Logits) -> int:
        self.seen.append(logits.copy())
        return super().choose(ids, logits)


class _Sink:
    def push(self, token_id: int) -> bool:
        return False

    def go_on(self) -> None: ...

    def finish(self, *_: object) -> None: ...

    def fail(self, error: BaseException) -> None:
        raise error


def recording(ids: Ids, count: int = 6) -> tuple[Request, list[Logits]]:
    """A request, and the logits from which it will have chosen."""
    recorder = Recorder()
    return Request(ids, GenerationConfig(max_new_tokens=count), _Sink(), chooser=recorder), recorder.seen


def recorded(engine: EngineCore, ids: Ids, count: int = 6) -> tuple[Request, list[Logits]]:
    room = engine.runner.spec.max_position_embeddings - len(ids) + 1
    request, seen = recording(ids, min(count, room))
    engine.submit(request)
    while not request.done:
        engine.step()
    return request, seen


# Bit for bit


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("first", "common", "length", "reused"),
    [
        (300, 300, 400, 256),
        (300, 280, 400, 256),
        (512, 512, 400, 256),
        (256, 256, 400, 256),
        (256, 256, 257, 256),
        (400, 400, 256, 0),  # ends where a kept chunk does, of whose last row the logits are not known
        (512, 255, 400, 0),
        (512, 100, 512, 0),
        (1, 1, 1, 1),
        (40, 40, 40, 40),
        (256, 256, 256, 256),
        (300, 300, 300, 300),
        (512, 512, 512, 512),
    ],
)
def test_a_reused_prefix_gives_the_logits_of_a_cold_prefill_bit_for_bit(
    model: Model, text: Ids, threads: int, first: int, common: int, length: int, reused: int
) -> None:
    session = DecoderSession(model.bundle, num_threads=threads)
    warm = EngineCore(session, prefixes=PrefixCache(session, budget=1 << 30, block_size=PREFILL_CHUNK))
    recorded(warm, text[:first])
    prompt = np.concatenate([text[:common], (text[common:length] + 1) % model.spec.vocab_size])[:length]
    (cold, cold_logits), (again, logits) = recorded(EngineCore(session), prompt), recorded(warm, prompt)
    assert (cold.reused, again.reused) == (0, reused)
    assert np.array_equal(cold_logits, logits)
    assert cold.token_ids == again.token_ids


def test_a_reused_prefix_beside_other_sequences_gives_the_logits_it_gives_alone(model: Model, text: Ids) -> None:
    session = DecoderSession(model.bundle, num_threads=2)
    warm = EngineCore(session, prefixes=PrefixCache(session, budget=1 << 30, block_size=PREFILL_CHUNK))
    prompts = [text[:n] for n in (300, 310, 256, 20, 300)]
    cold = [recorded(EngineCore(session), prompt) for prompt in prompts]
    together = [recording(prompt) for prompt in prompts]
    for request, _ in together:
        warm.submit(request)
    while not all(request.done for request, _ in together):
        warm.step()
    assert [request.reused for request, _ in together] == [0, 256, 0, 0, 300]
    for (_, alone), (_, seen) in zip(cold, together, strict=True):
        assert np.array_equal(alone, seen)


# Model.prefix


def test_prompts_that_begin_with_a_prefix_start_from_it(without: Model, text: Ids) -> None:
    cold = without.generate(text[:400], max_new_tokens=8)
    with without.prefix(text[:300]) as prefix:
        warm = without.generate(text[:400], max_new_tokens=8)
        assert (len(prefix), prefix.token_ids) == (300, tuple(text[:300].tolist()))
    assert (cold.stats.reused_tokens, warm.stats.reused_tokens) == (0, 256)
    assert warm.token_ids == cold.token_ids
    assert without.generate(text[:400], max_new_tokens=8).stats.reused_tokens == 0


def test_a_prefix_may_be_text(without: Model) -> None:
    with without.prefix("Once upon a time") as prefix:
        assert without.tokenizer.decode(list(prefix.token_ids)) == "Once upon a time"
        assert without.generate("Once upon a time", max_new_tokens=2).stats.reused_tokens == len(prefix)


def test_a_closed_prefix_takes_no_memory_beyond_the_budget(without: Model, text: Ids) -> None:
    prefix = without.prefix(text[:300])
    taken = 300 * without._session.bytes_per_position + 4 * without.spec.vocab_size
    assert prefix.nbytes == kept_bytes(without) == taken
    assert repr(prefix) == f"<neort.Prefix of 300 tokens, {taken:,} bytes>"
    prefix.close()
    prefix.close()
    assert prefix.nbytes == kept_bytes(without) == 0


def test_a_prefix_whose_making_is_interrupted_is_not_kept(
    without: Model, text: Ids, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Request, "take", interrupt)
    with pytest.raises(KeyboardInterrupt):
        without.prefix(text[:300])
    monkeypatch.undo()
    assert without.generate(text[:400], max_new_tokens=1).stats.reused_tokens == 0
    assert kept_bytes(without) == 0


@pytest.mark.parametrize("wrong", ["", [5000], [1] * 513])
def test_an_impossible_prefix_is_refused_as_an_impossible_prompt_is(fresh: Model, wrong: Any) -> None:
    with pytest.raises(PromptError):
        fresh.prefix(wrong)


def test_a_prefix_may_fill_the_context(without: Model, text: Ids) -> None:
    with without.prefix(text) as prefix:
        assert len(prefix) == 512
        out = without.generate(text, max_new_tokens=1)
    assert out.stats.reused_tokens == 512


# Recent prompts


def test_recent_prompts_are_kept_by_default(fresh: Model, text: Ids) -> None:
    first = fresh.generate(text[:300], max_new_tokens=4)
    again = fresh.generate(text[:300], max_new_tokens=4)
    assert (first.stats.reused_tokens, again.stats.reused_tokens) == (0, 300)
    assert again.token_ids == first.token_ids
    assert again.stats.prompt_tokens_per_second == 0


def test_recent_prompts_stay_within_their_budget(bundle_path: Path, text: Ids) -> None:
    small = neort.load(bundle_path, num_threads=2, prefix_cache_bytes=3_000_000)
    for shift in range(6):
        small.generate(text[shift : shift + 300], max_new_tokens=2)
        assert 0 < kept_bytes(small) <= 3_000_000


def test_return_sequences_share_one_prefill(fresh: Model, text: Ids) -> None:
    outs = fresh.generate(text[:300], max_new_tokens=4, num_return_sequences=3, do_sample=True, seed=1)
    assert isinstance(outs, list)
    assert [out.stats.reused_tokens for out in outs] == [0, 300, 300]


def test_drafting_goes_on_from_a_reused_prefix(bundle_path: Path, text: Ids) -> None:
    drafting = neort.load(bundle_path, num_threads=2, draft="prompt-lookup")
    first, second = (drafting.generate(text[:300], max_new_tokens=40) for _ in range(2))
    assert second.stats.reused_tokens == 300
    assert second.token_ids == first.token_ids


@pytest.mark.parametrize(("value", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_load_refuses_an_impossible_budget(bundle_path: Path, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="prefix_cache_bytes"):
        neort.load(bundle_path, prefix_cache_bytes=value)


# Files


@pytest.fixture(scope="module")
def saved(bundle_path: Path, text: Ids, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with 300 tokens."""
    file = tmp_path_factory.mktemp("saved") / "story.prefix"
    model = neort.load(bundle_path, num_threads=2, prefix_cache_bytes=0)
    with model.prefix(text[:300]) as prefix:
        prefix.save(file)
    return file


@pytest.mark.parametrize("length", [300, 400])
def test_a_loaded_prefix_gives_the_logits_of_a_cold_prefill_bit_for_bit(
    without: Model, saved: Path, text: Ids, length: int
) -> None:
    _, cold = recorded(EngineCore(without._session), text[:length])
    with without.load_prefix(saved) as prefix:
        assert prefix.token_ids == tuple(text[:300].tolist())
        request, warm = recorded(without._engine.core, text[:length])
    assert request.reused == (300 if length == 300 else 256)
    assert np.array_equal(warm, cold)
    assert kept_bytes(without) == 0


def test_saving_what_was_loaded_gives_the_same_file(without: Model, saved: Path, tmp_path: Path) -> None:
    with without.load_prefix(saved) as prefix:
        prefix.save(os.fspath(tmp_path / "again"))
    assert (tmp_path / "again").read_bytes() == saved.read_bytes()
    assert os.listdir(tmp_path) == ["again"]


def test_other_programs_read_the_file_as_safetensors(model: Model, saved: Path, text: Ids) -> None:
    tensors = pytest.importorskip("safetensors.numpy").load_file(saved)
    assert np.array_equal(tensors["token_ids"], text[:300])
    assert tensors["5.value"].shape == (model.spec.num_heads, 300, model.spec.head_dim)


def test_a_prefix_is_loaded_while_another_thread_generates(without: Model, saved: Path, text: Ids) -> None:
    expected = without.generate(text[:400], max_new_tokens=60).token_ids
    outs: list[Any] = []
    thread = threading.Thread(target=lambda: outs.append(without.generate(text[:400], max_new_tokens=60)))
    thread.start()
    for _ in range(5):
        with without.load_prefix(saved):
            assert without.generate(text[:300], max_new_tokens=2).stats.reused_tokens == 300
    thread.join(timeout=PATIENCE)
    assert [out.token_ids for out in outs] == [expected]


def test_a_closed_prefix_cannot_be_saved(without: Model, tmp_path: Path) -> None:
    prefix = without.prefix("The")
    prefix.close()
    with pytest.raises(PrefixError, match="closed"):
        prefix.save(tmp_path / "file")


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("existing", [b"old", None])
def test_what_fails_while_writing_leaves_nothing_half_written(
    without: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, existing: bytes | None
) -> None:
    file = tmp_path / "file"
    if existing:
        file.write_bytes(existing)

    def fail(_: int) -> None:
        raise failure

    with without.prefix("The") as prefix:
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises((StorageError, KeyboardInterrupt)) as caught:
            prefix.save(file)
    if isinstance(failure, OSError):
        assert "No space left on device" in str(caught.value)
        assert str(file) in str(caught.value)
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == ({"file": existing} if existing else {})


@pytest.mark.parametrize("place", ["missing/file", "."])
def test_a_file_that_cannot_be_written_is_named(without: Model, tmp_path: Path, place: str) -> None:
    with without.prefix("The") as prefix, pytest.raises(StorageError, match="cannot be written to"):
        prefix.save(tmp_path / place)
    assert list(tmp_path.iterdir()) == []


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """The file with another header, as long as it was."""

    def edit(data: bytes) -> bytes:
        count = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + count])
        change(header)
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + data[8 + count :]

    return edit


def metadata(name: str, value: str) -> Callable[[bytes], bytes]:
    return edited(lambda header: header["__metadata__"].update({name: value}))


def flipped(place: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "0 bytes and is no prefix file, or a truncated one"),
    "cut in the header": (lambda data: data[:100], "100 bytes and is no prefix file, or a truncated one"),
    "cut in the rows": (lambda data: data[:-5000], "its header says .*: it is truncated"),
    "cut by a byte": (lambda data: data[:-1], "its header says .*: it is truncated"),
    "longer": (lambda data: data + b"\0", "bytes, its header says"),
    "bit in the tokens": (lambda data: flipped(8 + int.from_bytes(data[:8], "little") + 8)(data), "damaged"),
    "bit in the rows": (flipped(-100_000), "does not match its sha256: it is damaged"),
    "bit in the hash": (flipped(-3), "does not match its sha256: it is damaged"),
    "other model": (metadata("model", "ab" * 32), "has model 'abab.*this model needs"),
    "other version": (metadata("format_version", "2"), "has format_version '2', this model needs '1'"),
    "other chunks": (metadata("prefill_chunk", "128"), "has prefill_chunk '128', this model needs '256'"),
    "other dtype": (edited(lambda h: h["3.key"].update(dtype="I8")), "3.key in 'I8', this model's cache is in 'F32'"),
    "other shape": (edited(lambda h: h["3.key"].update(shape=[6, 299, 32])), "header that does not fit this model"),
    "too long": (edited(lambda h: h["token_ids"].update(shape=[513])), "header that does not fit this model"),
    "huge": (edited(lambda h: h["token_ids"].update(shape=[2**62])), "header that does not fit this model"),
    "no tokens": (edited(lambda h: h["token_ids"].update(shape=[0])), "header that does not fit this model"),
    "no shape": (edited(lambda h: h["token_ids"].update(shape=None)), "no prefix file, or its header is damaged"),
    "fewer layers": (edited(lambda h: h.pop("5.value")), "header that does not fit this model"),
    "further tensor": (edited(lambda h: h.update(more=h["logits"])), "header that does not fit this model"),
    "entry is a list": (edited(lambda h: h.update({"3.key": []})), "no prefix file, or its header is damaged"),
    "other safetensors": (edited(lambda h: h.pop("__metadata__")), "no prefix file, or its header is damaged"),
    "a pickle": (lambda data: b"\x80\x04K\x01." + bytes(200), "is no prefix file"),
    "text": (lambda data: b"Once upon a time" * 9, "is no prefix file"),
    "deep": (lambda data: (50_000).to_bytes(8, "little") + b"[" * 50_000, "no prefix file, or its header is damaged"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_a_file_that_is_not_what_was_saved_is_refused(
    without: Model, saved: Path, tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    file = tmp_path / "damaged"
    file.write_bytes(damage(saved.read_bytes()))
    with pytest.raises(PrefixError, match=message) as caught:
        without.load_prefix(file)
    assert str(file) in str(caught.value)
    assert "make the prefix again" in str(caught.value)
    assert kept_bytes(without) == 0


def test_a_file_of_another_model_is_refused(
    saved: Path, bundle_copy: Path, replace_file: Callable[[str, bytes], None]
) -> None:
    weights = bytearray((bundle_copy / "weights.data").read_bytes())
    weights[-1] ^= 1
    replace_file("weights.data", bytes(weights))
    with pytest.raises(PrefixError, match="has model"):
        neort.load(bundle_copy, num_threads=1).load_prefix(saved)


def test_a_missing_file_is_named(without: Model, tmp_path: Path) -> None:
    with pytest.raises(PrefixError, match=r"absent cannot be read .*No such file") as caught:
        without.load_prefix(tmp_path / "absent")
    assert isinstance(caught.value, FileNotFoundError)
    assert caught.value.filename == os.fspath(tmp_path / "absent")
    assert str(caught.value).endswith("make the prefix again with Model.prefix, and save it")


def test_a_folder_in_a_file_s_place_is_refused(without: Model, tmp_path: Path) -> None:
    with pytest.raises(PrefixError, match="cannot be read") as caught:
        without.load_prefix(tmp_path)
    assert not isinstance(caught.value, OSError)


@pytest.mark.skipif(os.name != "posix", reason="needs permissions")
def test_a_new_file_is_its_owner_s_only_and_an_existing_one_keeps_its_permissions(
    without: Model, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.touch()
    shared.chmod(0o640)
    with without.prefix("The") as prefix:
        prefix.save(tmp_path / "new")
        prefix.save(shared)
    assert [stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "new", shared)] == [0o600, 0o640]


def test_a_name_of_240_letters_is_saved(without: Model, tmp_path: Path) -> None:
    with without.prefix("The") as prefix:
        prefix.save(tmp_path / ("x" * 240))
    assert os.listdir(tmp_path) == ["x" * 240]
