"""Streams for asyncio: the pieces of `Model.stream`, and what ends a sequence."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import Any

import pytest

import neort
from neort.asynchronous import AsyncStream, AsyncStreams
from neort.engine import Request
from patience import PATIENCE

PROMPT = "Once upon a time"


def request_of(stream: AsyncStream) -> Request:
    return stream._collector.request


async def read(stream: AsyncStream) -> list[neort.Piece]:
    return [piece async for piece in stream]


def run(coroutine: Any) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(coroutine, PATIENCE)

    return asyncio.run(bounded())


def test_the_pieces_are_those_of_stream(model: neort.Model) -> None:
    pieces = run(read(model.astream(PROMPT, max_new_tokens=12)))
    expected = list(model.stream(PROMPT, max_new_tokens=12))
    assert [(each.text, each.token_ids, each.finish_reason) for each in pieces] == [
        (each.text, each.token_ids, each.finish_reason) for each in expected
    ]


def test_many_streams_run_in_one_loop_beside_threads(model: neort.Model) -> None:
    prompts = [f"{PROMPT} {i}" for i in range(6)]
    expected = [completion.text for completion in model.generate(prompts, max_new_tokens=8)]
    threaded: list[str] = []
    thread = threading.Thread(target=lambda: threaded.append(model.generate(PROMPT, max_new_tokens=8).text))

    async def all_of_them() -> list[str]:
        read_all = await asyncio.gather(*(read(model.astream(prompt, max_new_tokens=8)) for prompt in prompts))
        return ["".join(piece.text for piece in pieces) for pieces in read_all]

    thread.start()
    assert run(all_of_them()) == expected
    thread.join(PATIENCE)
    assert threaded == [model.generate(PROMPT, max_new_tokens=8).text]


def test_no_thread_is_started_for_a_stream(model: neort.Model) -> None:
    model.generate(PROMPT, max_new_tokens=1)

    async def threads() -> set[int]:
        counts = set()
        async for _ in model.astream(PROMPT, max_new_tokens=4):
            counts.add(threading.active_count())
        return counts

    assert run(threads()) == {threading.active_count()}


def test_break_ends_the_sequence(model: neort.Model) -> None:
    async def first() -> Request:
        stream = model.astream(PROMPT, max_new_tokens=400)
        request = request_of(stream)
        async for _ in stream:
            break
        del stream
        return request

    assert run(first()).done


def test_an_exception_in_the_loop_ends_the_sequence(model: neort.Model) -> None:
    requests = []

    async def failing() -> None:
        stream = model.astream(PROMPT, max_new_tokens=400)
        requests.append(request_of(stream))
        async with stream:
            async for _ in stream:
                raise KeyError

    with pytest.raises(KeyError):
        run(failing())
    assert requests[0].done


def test_cancelling_the_task_ends_the_sequence(model: neort.Model) -> None:
    stream = model.astream(PROMPT, max_new_tokens=400)

    async def cancelled() -> None:
        started = asyncio.Event()

        async def reading() -> None:
            async for _ in stream:
                started.set()

        task = asyncio.create_task(reading())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(cancelled())
    assert request_of(stream).done
    assert len(request_of(stream).token_ids) < 400


def test_aclose_ends_the_sequence_and_the_loop_that_reads_it(model: neort.Model) -> None:
    async def closed() -> int:
        stream = model.astream(PROMPT, max_new_tokens=400)
        task = asyncio.create_task(read(stream))
        await asyncio.sleep(0)
        await stream.aclose()
        return len(await task)

    assert run(closed()) < 400


def test_cancelling_during_a_long_prefill_takes_one_chunk(model: neort.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    chunks: list[int] = []
    cancelled = threading.Event()
    runner, prefill = model._session, model._session.prefill
    prompt = [5, 6, 7, 8] * 127  # of two chunks

    async def cancel_in_the_first_chunk() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(read(model.astream(prompt, max_new_tokens=2)))

        def slow(slot: int, ids: Any, start: int, keep: int) -> Any:
            chunks.append(start)
            if len(chunks) == 1:
                loop.call_soon_threadsafe(task.cancel)
                assert cancelled.wait(PATIENCE)
            return prefill(slot, ids, start, keep)

        monkeypatch.setattr(runner, "prefill", slow)
        with pytest.raises(asyncio.CancelledError):
            await task
        cancelled.set()

    run(cancel_in_the_first_chunk())
    model._engine.settle()
    assert chunks == [0]


def test_a_loop_that_is_closed_ends_the_sequence(model: neort.Model) -> None:
    stream = model.astream(PROMPT, max_new_tokens=400)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(stream.__anext__())
    loop.close()
    while not request_of(stream).done:
        model._engine.settle()
    assert len(request_of(stream).token_ids) < 400


def test_a_stream_that_nobody_reads_any_more_ends(model: neort.Model) -> None:
    stream = model.astream(PROMPT, max_new_tokens=400)
    request = request_of(stream)
    run(stream.__anext__())
    del stream
    gc.collect()
    assert request.done


def test_errors_of_the_call_are_raised_by_the_call(model: neort.Model) -> None:
    with pytest.raises(neort.PromptError):
        model.astream("", max_new_tokens=2)
    with pytest.raises(neort.ArgumentTypeError):
        model.astream(PROMPT, max_tokens=2)  # type: ignore[call-arg]
    with pytest.raises(neort.ConfigError, match="several streams"):
        model.astream(PROMPT, do_sample=True, num_return_sequences=2)  # type: ignore[call-arg]


def test_an_error_of_the_sequence_is_raised_in_the_loop(model: neort.Model) -> None:
    def failing(ids: Any, logits: Any) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run(read(model.astream(PROMPT, logits_processor=[failing])))


def test_two_tasks_cannot_read_one_stream(model: neort.Model) -> None:
    async def both() -> None:
        stream = model.astream(PROMPT, max_new_tokens=40)
        await asyncio.gather(read(stream), read(stream))

    with pytest.raises(neort.EngineError, match="two tasks"):
        run(both())


def test_agenerate_gives_the_completion_of_generate(model: neort.Model) -> None:
    async def all_of_them() -> list[neort.Completion]:
        return await asyncio.gather(*(model.agenerate(f"{PROMPT} {i}", max_new_tokens=6) for i in range(3)))

    expected = model.generate([f"{PROMPT} {i}" for i in range(3)], max_new_tokens=6)
    assert [each.token_ids for each in run(all_of_them())] == [each.token_ids for each in expected]


def test_cancelling_agenerate_ends_the_sequence(model: neort.Model) -> None:
    async def cancelled() -> None:
        task = asyncio.create_task(model.agenerate(PROMPT, max_new_tokens=400))
        while not model._engine.running:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(cancelled())
    model._engine.settle()
    assert not model._engine.running


async def read_all(streams: AsyncStreams) -> list[list[neort.Piece]]:
    pieces: list[list[neort.Piece]] = [[] for _ in streams.collectors]
    async for number, piece in streams:
        pieces[number].append(piece)
    return pieces


def test_several_streams_are_numbered_as_the_sequences_of_generate(model: neort.Model) -> None:
    prompts = [PROMPT, "The"]
    config = neort.GenerationConfig(do_sample=True, seed=3, num_return_sequences=2, max_new_tokens=9)
    streams = model.astreams(prompts, config)
    pieces = run(read_all(streams))
    expected = model.generate(prompts, config)
    assert ["".join(piece.text for piece in each) for each in pieces] == [each.text for each in expected]
    assert [each.token_ids for each in streams.completions()] == [each.token_ids for each in expected]


@pytest.mark.parametrize("options", [{}, {"stop_strings": "a text that never comes"}, {"eos_token_id": 279}], ids=repr)
def test_each_token_of_several_streams_is_a_piece_and_the_last_one_ends_its_sequence(
    model: neort.Model, options: Any
) -> None:
    (pieces,) = run(read_all(model.astreams([PROMPT], max_new_tokens=12, **options)))
    expected = model.generate(PROMPT, max_new_tokens=12, **options)
    assert [piece.token_ids for piece in pieces] == [(token_id,) for token_id in expected.token_ids]
    assert [piece.finish_reason for piece in pieces] == [None] * (len(pieces) - 1) + [expected.finish_reason]
    assert pieces[-1].stop_reason == expected.stop_reason


def test_leaving_the_loop_over_several_streams_ends_all(model: neort.Model) -> None:
    async def first() -> list[Request]:
        streams = model.astreams([PROMPT, "The"], max_new_tokens=400, ignore_eos=True)
        async for _ in streams:
            break
        requests = [collector.request for collector in streams.collectors]
        del streams
        return requests

    assert all(request.done for request in run(first()))


def test_several_streams_end_at_a_deadline(model: neort.Model) -> None:
    async def late() -> None:
        streams = model.astreams([PROMPT, "The"], max_new_tokens=400, ignore_eos=True)
        try:
            while True:
                await streams.next(time.perf_counter())
        finally:
            assert all(collector.request.done for collector in streams.collectors)

    with pytest.raises(TimeoutError):
        run(late())


def test_an_error_of_one_stream_ends_the_others(model: neort.Model) -> None:
    async def failing() -> None:
        config = neort.GenerationConfig(max_new_tokens=400, ignore_eos=True, allowed_token_ids=[0], min_new_tokens=2)
        streams = model.astreams([PROMPT, "The"], config.replace(ignore_eos=False, eos_token_id=0))
        try:
            await read_all(streams)
        finally:
            assert all(collector.request.done for collector in streams.collectors)

    with pytest.raises(neort.LogitsError):
        run(failing())
