"""The scheduler by itself: whom it lets in, into which slots, and what it gives back; no model runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fakes import LIMIT, VOCAB, FakeRunner, make
from neort.engine import Group, Request, Scheduler
from neort.errors import BusyError, PromptError


class Counting(FakeRunner):
    """A runner that counts how often it is asked what it can take, and runs nothing."""

    asked = 0

    @property
    def bytes_per_position(self) -> int:
        self.asked += 1
        return 10

    def prefill(self, *_: Any) -> Any:
        raise AssertionError("a scheduler runs no model")

    def decode(self, *_: Any) -> Any:
        raise AssertionError("a scheduler runs no model")


def submitted(scheduler: Scheduler, prompt: list[int], **options: Any) -> Request:
    request, _ = make(prompt, **{"max_new_tokens": 4, **options})
    scheduler.submit(request)
    return request


def started(scheduler: Scheduler) -> list[Group]:
    """Start what may start, as an engine does."""
    requests = []
    while (request := scheduler.next_request()) is not None:
        scheduler.admit(request)
        fill(scheduler, request)
        requests.append(request)
    return requests


def fill(scheduler: Scheduler, request: Group) -> None:
    runner = scheduler.runner
    assert isinstance(runner, FakeRunner)
    for sequence in request.sequences:
        runner.slots[scheduler.slots.places[sequence]] = list(sequence.context)
        sequence.cached = len(sequence.context)
    request.filling = False


def test_requests_start_in_the_order_in_which_they_came_as_long_as_slots_last() -> None:
    scheduler = Scheduler(Counting(max_batch_size=2))
    requests = [submitted(scheduler, [token]) for token in (1, 2, 3)]
    assert started(scheduler) == requests[:2] == scheduler.running
    requests[0].done = True
    scheduler.drop_done()
    assert started(scheduler) == requests[2:]
    assert scheduler.running == [requests[2], requests[1]]  # in the first one's slot


def test_a_request_waits_until_it_is_started() -> None:
    scheduler = Scheduler(Counting())
    request = submitted(scheduler, [1])
    assert scheduler.next_request() is scheduler.next_request() is request
    assert (list(scheduler.waiting), scheduler.running) == ([request], [])


def test_a_request_that_fits_waits_behind_one_that_does_not_fit_yet() -> None:
    """Else long requests would starve."""
    scheduler = Scheduler(Counting(), max_cache_bytes=100)
    first = submitted(scheduler, [1, 2], max_new_tokens=5)
    long = submitted(scheduler, [1, 2], max_new_tokens=6)
    short = submitted(scheduler, [1], max_new_tokens=1)
    assert started(scheduler) == [first]
    first.done = True
    scheduler.drop_done()
    assert started(scheduler) == [long, short]


def test_a_request_is_checked_once() -> None:
    runner = Counting()
    scheduler = Scheduler(runner, max_cache_bytes=100)
    request, _ = make([1, 2], max_new_tokens=3)
    scheduler.check(request)
    asked = runner.asked
    assert asked > 0
    scheduler.check(request)
    scheduler.submit(request)
    assert runner.asked == asked
    assert list(scheduler.waiting) == [request]


def test_what_is_refused_is_checked_again_and_never_queued() -> None:
    scheduler = Scheduler(Counting())
    request, _ = make([VOCAB], max_new_tokens=3)
    for _ in range(2):
        with pytest.raises(PromptError, match="outside the vocabulary"):
            scheduler.submit(request)
    assert not scheduler.waiting


def test_a_slot_between_others_can_be_borrowed_and_is_nobodys_until_it_is_given_back() -> None:
    scheduler = Scheduler(Counting(max_batch_size=3))
    first, *_ = [submitted(scheduler, [token]) for token in (1, 2, 3)]
    started(scheduler)
    first.done = True
    scheduler.drop_done()
    assert scheduler.borrow_slots([3, 3]) == range(1)
    submitted(scheduler, [4])
    scheduler.slots.close_up()
    assert (started(scheduler), scheduler.slots.free) == ([], 0)
    scheduler.slots.give_back()
    assert len(started(scheduler)) == 1


def test_a_slot_that_is_borrowed_lies_after_those_of_the_running_requests() -> None:
    scheduler = Scheduler(Counting(max_batch_size=2))
    assert scheduler.borrow_slot(3) == 0
    scheduler.slots.give_back()
    submitted(scheduler, [1])
    started(scheduler)
    assert scheduler.borrow_slot(3) == 1
    scheduler.slots.give_back()
    submitted(scheduler, [2])
    started(scheduler)
    with pytest.raises(BusyError):
        scheduler.borrow_slot(3)


def test_a_full_context_finishes_or_drops_its_oldest_tokens() -> None:
    scheduler = Scheduler(Counting())
    stopping = submitted(scheduler, [1] * LIMIT, max_new_tokens=9, overflow="stop")
    going_on = submitted(scheduler, [2] * LIMIT, max_new_tokens=9, overflow="truncate_left")
    beside = submitted(scheduler, [3] * 4, max_new_tokens=9)
    started(scheduler)
    for request in (stopping, going_on):
        request.sequences[0].cached = LIMIT
    assert list(scheduler.full()) == [going_on]
    assert (stopping.done, going_on.done, beside.done) == (True, False, False)
    scheduler.restart(going_on)
    assert scheduler.prompts == [going_on]
    assert len(going_on.sequences[0].context) < LIMIT
    assert len(beside.sequences[0].context) == 4


def test_memory_of_idle_slots_is_kept_for_those_who_wait() -> None:
    runner = Counting(max_batch_size=1)
    scheduler = Scheduler(runner)
    first, second = submitted(scheduler, [1, 2]), submitted(scheduler, [3])
    started(scheduler)
    first.done = True
    scheduler.drop_done()
    scheduler.release_idle()
    assert runner.slots == [[1, 2]]
    second.done = True
    scheduler.drop_done()
    scheduler.release_idle()
    assert runner.slots == [[]]


def test_scores_of_more_tokens_than_positions_are_refused() -> None:
    scheduler = Scheduler(Counting(), max_cache_bytes=100)
    scheduler.limits.check_positions(10)
    with pytest.raises(PromptError, match="11 tokens need 110 bytes of cache; max_cache_bytes is 100"):
        scheduler.limits.check_positions(11)
    with pytest.raises(PromptError, match="more than the model's 32 positions"):
        scheduler.limits.check_positions(LIMIT + 1)


def test_all_requests_are_let_go_whatever_their_state() -> None:
    scheduler = Scheduler(Counting(max_batch_size=2))
    requests = [submitted(scheduler, [token]) for token in range(4)]
    started(scheduler)
    for place in np.random.default_rng(0).permutation(4):
        requests[place].done = True
        scheduler.drop_done()
    assert (list(scheduler.waiting), scheduler.running) == ([], [])
