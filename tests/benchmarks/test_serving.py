"""The load client reads what servers send, sees what breaks off, and the soak finds wrong answers and leaks."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from benchmarks.report import serving_tables
from benchmarks.serving.client import Address, Asked, Exchange, exchange
from benchmarks.serving.load import closed_loop, open_loop, percentiles, summary
from benchmarks.serving.servers import Held
from benchmarks.serving.soak import leaks, mistake
from benchmarks.serving.workload import MALFORMED, Lengths, endless, of_ids, of_words

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
IDLE = Held(100.0, 10, 4, 0, 0, 0)


def event(text: str, finish: str | None = None, index: int = 0) -> bytes:
    choice = {"index": index, "text": text, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


STREAM = [event("One"), event(" two"), event("", index=1), event("", "length"), b"data: [DONE]\n\n"]
WHOLE = [HEAD, *map(chunk, STREAM), b"0\r\n\r\n"]


async def against(pieces: list[bytes], use: Callable[[Address], Awaitable[Any]]) -> Any:
    """What ``use`` gives with a server that answers every request with the same bytes, piece by piece."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        return await use(Address("127.0.0.1", server.sockets[0].getsockname()[1]))


def answered(pieces: list[bytes], **fields: Any) -> Exchange:
    found: Exchange = asyncio.run(against(pieces, lambda address: exchange(address, Asked({}, **fields))))
    return found


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_events_are_read_however_the_bytes_are_cut(size: int) -> None:
    sent = b"".join(STREAM)
    cut = [HEAD, *(chunk(sent[at : at + size]) for at in range(0, len(sent), size)), b"0\r\n\r\n"]
    found = answered(cut)
    assert found.as_expected
    assert dict(found.texts) == {0: "One two", 1: ""}
    assert found.finish_reasons == {0: "length"}
    assert len(found.times) == 3  # the event that only ends a choice brings no token


def test_an_answer_in_one_piece_has_the_same_text() -> None:
    body = json.dumps(
        {"choices": [{"index": 0, "text": "One two", "finish_reason": "stop"}], "usage": {"a": 1}}
    ).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    found = answered([head + body])
    assert (found.texts[0], found.usage, found.as_expected) == ("One two", {"a": 1}, True)


@pytest.mark.parametrize("kept", range(len(WHOLE)))
def test_a_stream_that_breaks_off_is_a_failure(kept: int) -> None:
    assert answered(WHOLE[:kept]).failure is not None


def test_an_error_event_is_a_failure() -> None:
    error = chunk(b'data: {"error": {"message": "no memory"}}\n\n')
    found = answered([HEAD, chunk(event("One")), error, chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n"])
    assert found.failure is not None
    assert "no memory" in found.failure


def test_a_client_leaves_after_as_many_events_as_asked() -> None:
    found = answered(WHOLE, leave_after=1)
    assert (found.left, len(found.times), found.as_expected) == (True, 1, True)


def test_a_status_is_compared_with_the_expected_one() -> None:
    refused = [b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}"]
    assert not answered(refused).as_expected
    assert answered(refused, expected_status=400).as_expected


def test_nobody_listening_is_a_failure() -> None:
    assert asyncio.run(exchange(Address("127.0.0.1", 1), Asked({}))).failure is not None


def test_both_loops_send_every_request_once() -> None:
    requests = of_words(0, 9, Lengths())
    closed = asyncio.run(against(WHOLE, lambda address: closed_loop(address, requests, 4)))
    opened = asyncio.run(against(WHOLE, lambda address: open_loop(address, requests, 1e4)))
    for found in (closed, opened):
        assert sorted(id(each.asked) for each in found) == sorted(map(id, requests))
        assert summary(found)["tokens"] == 27
        assert summary(found)["unexpected"] == 0


def test_percentiles_are_nearest_ranks() -> None:
    assert percentiles(n / 1000 for n in range(1, 101)) == {"p50": 50, "p95": 95, "p99": 99, "max": 100}
    assert percentiles([0.002]) == {"p50": 2, "p95": 2, "p99": 2, "max": 2}
    assert percentiles([]) == {}


def test_a_seed_makes_the_same_load_and_lengths_keep_their_limits() -> None:
    lengths = Lengths((3, 40), (1, 9))
    pool = of_ids(5, 300, lengths, 100)
    assert pool == of_ids(5, 300, lengths, 100) != of_ids(6, 300, lengths, 100)
    bodies = [each.body for each in pool if isinstance(each.body, dict)]
    assert {len(body["prompt"]) for body in bodies} <= set(range(3, 41))
    assert {body["max_tokens"] for body in bodies} == set(range(1, 10))
    taken = [list(itertools.islice(endless(pool, 1), 2000)) for _ in range(2)]
    assert taken[0] == taken[1]
    assert 140 < sum(each.leave_after is not None for each in taken[0]) < 260
    assert 60 < sum(each.expected_status != 200 for each in taken[0]) < 140
    assert {each.name for each in taken[0] if each.name} == {each.name for each in MALFORMED}


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, None),
        ({"texts": {0: "One twO"}}, "text"),
        ({"texts": {0: "One"}}, "text"),
        ({"texts": {0: "One"}, "left": True}, None),
        ({"texts": {0: "Two"}, "left": True}, "beginning"),
        ({"status": 500}, "status"),
        ({"failure": "EOFError"}, "broken"),
    ],
)
def test_an_answer_must_be_the_one_that_the_request_got_alone(changes: dict[str, Any], kind: str | None) -> None:
    asked = Asked({"prompt": "a"})
    found = Exchange(asked, 0.0, status=200)
    found.texts.update({0: "One two"})
    for name, value in changes.items():
        setattr(found, name, value)
    assert mistake(found, {id(asked.body): {0: "One two"}}) == kind


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (IDLE, None),
        (Held(149.0, 10, 4, 0, 0, 0), "memory grew by 49.0 MB"),
        (Held(100.0, 11, 4, 0, 0, 0), "open files is 11"),
        (Held(100.0, 10, 4, 1, 0, 0), "running is 1"),
        (Held(100.0, 10, 4, 0, 2, 0), "waiting is 2"),
    ],
)
def test_what_is_not_given_back_is_named(after: Held, said: str | None) -> None:
    found = leaks(IDLE, IDLE, after, argparse.Namespace(growth=48.0))
    assert (said is None) == (not found)
    assert said is None or said in found[0]


def test_the_table_shows_both_servers_and_their_ratio() -> None:
    times = {"p50": 10.0, "p95": 20.0, "p99": 30.0}
    cell = {"tokens_per_second": 100.0, "ttft_milliseconds": times, "tpot_milliseconds": times}
    medians = {"neort int8": {"4": cell | {"tokens_per_second": 250.0}}, "llama.cpp Q8_0": {"4": cell}}
    machine = {"cpu": "a CPU", "cpus": 2}
    load = {"slots": 64, "rounds": 2, "prompt_tokens": [16, 96], "answer_tokens": [16, 48]}
    lines = serving_tables.serving({"name": "a-shape", "medians": medians, "machine": machine} | load)
    assert "64 slots; prompts of 16 to 96 and answers of 16 to 48 tokens, rounds: 2" in lines[0]
    assert lines[2:] == [
        "| **neort int8** | 4 | 250.0 | 2.50 | 10 | 20 | 10 | 20 |",
        "| llama.cpp Q8_0 | 4 | 100.0 | 1.00 | 10 | 20 | 10 | 20 |",
    ]
