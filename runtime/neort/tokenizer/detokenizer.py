"""Token bytes to text: whole characters only, and nothing that may turn out to be a stop string.

Special tokens have a text that is no part of the result, and that a stop string may be or hold all the same.

Knows nothing about models or token ids: bytes go in, as they are generated, and text comes out.
"""

from __future__ import annotations

import codecs
import copy
from collections import deque
from collections.abc import Sequence
from weakref import WeakValueDictionary

from ..errors import ArgumentTypeError, ConfigError

__all__ = ["TextStream"]


class TextStream:
    """Text pieces of a byte stream, up to the first stop string.

    The joined pieces are `data.decode("utf-8", "replace")` of all the bytes pushed, cut where the first stop string
    starts, or ends where it is to be kept. Stop strings are looked for in that text with what was pushed as hidden in
    its place: after the characters that were complete by then, so that hidden text never breaks a character in two.

    The first stop string is the one that is complete first; of several that are complete at the same
    character, the longest, which also starts first. Only the characters so far decide this, so neither the
    text nor the match depends on how the bytes were cut into pieces, and no stop waits for what may follow:
    of "ab" and "abc" the longer one never matches.

    Held back are only the bytes of an incomplete character and the longest end of the text that starts a stop
    string. The cost is linear in the length of the text, however many and long the stop strings are.

    Attributes:
        matched: the stop string that ended the text, or None.
    """

    def __init__(self, stop_strings: Sequence[str] = (), *, keep_stop: bool = False) -> None:
        """Takes the stop strings; without any, the stream only holds back incomplete characters.

        With ``keep_stop`` the text ends with the stop string, of which it holds what was pushed.

        Raises:
            TypeError: stop_strings is a str, or holds something that is not.
            ConfigError: a stop string is empty.
        """
        if isinstance(stop_strings, str) or not all(isinstance(stop, str) for stop in stop_strings):
            raise ArgumentTypeError(f"stop_strings must be a list of str, not {stop_strings!r}")
        if "" in stop_strings:
            raise ConfigError("stop_strings holds an empty string, which would stop at once: leave it out")
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._matcher = _Matcher(stop_strings)
        self._held: deque[str] = deque()  # of each character that may start a stop string: itself, or "" if hidden
        self._keep_stop = keep_stop
        self._finished = False
        self.matched: str | None = None

    def fork(self) -> TextStream:
        """An independent copy, in the state that this one is in."""
        fork = copy.copy(self)
        fork._decoder, fork._matcher = copy.copy(self._decoder), copy.copy(self._matcher)
        fork._held = self._held.copy()
        return fork

    @property
    def stopped(self) -> bool:
        """Whether a stop string is complete; it and all that follows is dropped."""
        return self.matched is not None

    def follow(self, text: str) -> None:
        """Takes the text that comes before, a prompt's end: a stop string may begin in it, and ends later."""
        for character in text:
            self._matcher.step(character)
        self._held.extend([""] * self._matcher.held)

    def push(self, data: bytes, *, stops: bool = True) -> str:
        """Takes the next bytes; returns the text that is certain now, "" once the stream has stopped.

        A stop string that they complete is let pass where they are not to be its end: ``stops`` is False.

        Raises:
            ValueError: after `finish`.
        """
        self._check_open()
        return "" if self.stopped else self._advance(self._decoder.decode(data), stops=stops)

    def push_hidden(self, text: str, *, stops: bool = True) -> str:
        """Takes text, a special token's say, that may complete a stop string and is no part of the result.

        Returns and raises what `push` does, and ``stops`` is what it is there.
        """
        self._check_open()
        return "" if self.stopped else self._advance(text, hidden=True, stops=stops)

    def finish(self) -> str:
        """Ends the stream; returns what was held back, with U+FFFD for an incomplete character."""
        self._finished = True
        if self.stopped:
            return ""
        certain = self._advance(self._decoder.decode(b"", final=True))
        rest = "".join(self._held)
        self._held.clear()
        return certain + rest

    def _check_open(self) -> None:
        if self._finished:
            raise ValueError("push after finish: make a new TextStream for another text")

    def _advance(self, new: str, *, hidden: bool = False, stops: bool = True) -> str:
        certain: list[str] = []
        for character in new:
            self.matched = self._matcher.step(character, stops=stops)
            self._held.append("" if hidden else character)
            if self.matched is not None:
                certain += list(self._held)[: None if self._keep_stop else -len(self.matched)]
                self._held.clear()
                break
            while len(self._held) > self._matcher.held:
                certain.append(self._held.popleft())
        return "".join(certain)


class _Automaton:
    """Aho and Corasick's: each state is an end of a text that starts a stop string. Never changes."""

    def __init__(self, stop_strings: Sequence[str]) -> None:
        self.next: list[dict[str, int]] = [{}]  # of each state, the state that a character leads to
        self.depth = [0]  # how many characters the state stands for
        self.match: list[str | None] = [None]  # the longest stop string that the state ends with
        for stop in stop_strings:
            state = 0
            for depth, character in enumerate(stop, start=1):
                state = self.next[state].setdefault(character, len(self.next))
                if state == len(self.next):
                    self.next.append({})
                    self.depth.append(depth)
                    self.match.append(None)
            self.match[state] = stop
        self.fallback = self._fallbacks()

    def _fallbacks(self) -> list[int]:
        """Of each state, the state of its longest proper end; goes from short states to long ones."""
        fallback = [0] * len(self.next)
        queue = deque(self.next[0].values())
        while queue:
            parent = queue.popleft()
            self.match[parent] = self.match[parent] or self.match[fallback[parent]]
            for character, state in self.next[parent].items():
                shorter = fallback[parent]
                while shorter and character not in self.next[shorter]:
                    shorter = fallback[shorter]
                fallback[state] = self.next[shorter].get(character, 0)
                queue.append(state)
        return fallback


_AUTOMATA: WeakValueDictionary[tuple[str, ...], _Automaton] = WeakValueDictionary()


class _Matcher:
    """Follows a text: its state is the longest end of it that starts a stop string.

    All that look for the same strings at one time, the choices of a request, share an automaton, which is large.
    """

    def __init__(self, stop_strings: Sequence[str]) -> None:
        key = tuple(stop_strings)
        automaton = _AUTOMATA.get(key)
        if automaton is None:
            automaton = _AUTOMATA[key] = _Automaton(key)
        self._automaton = automaton  # which lives as long as one that follows a text by it
        self._next, self._fallback, self._match = automaton.next, automaton.fallback, automaton.match
        self._state = 0

    @property
    def held(self) -> int:
        """How many characters at the end of the text may be the start of a stop string."""
        return self._automaton.depth[self._state]

    def step(self, character: str, *, stops: bool = True) -> str | None:
        """Takes one more character; returns the longest stop string that the text now ends with, if it ``stops``."""
        while self._state and character not in self._next[self._state]:
            self._state = self._fallback[self._state]
        self._state = self._next[self._state].get(character, 0)
        return self._match[self._state] if stops else None
