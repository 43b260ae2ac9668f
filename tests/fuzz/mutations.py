"""Ways to damage a file: as bytes, and as JSON that still parses or nearly does.

A mutation takes the contents and a random generator, and returns other contents; the same generator state gives the
same ones. It never fails: where it finds nothing to change, the contents come back as they were. `messages` has those
of protobuf messages. Knows nothing about what the files are for.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["BYTES", "JSON", "Mutation", "mutated"]

Mutation = Callable[[bytes, random.Random], bytes]

LARGEST_BLOCK = 4096
DEEP = 100_000  # nested lists, more than a parser's stack has frames
LONG = 300_000  # characters of a string
STRANGE = ("\ud800", "a\udfff", "\0", "../x", "/etc/passwd", "\u202e", "%s{}", "a\nb\rc\x1b[2J", "~nobody/x", "é" * 300)
PLACE = "\x00place\x00"  # stands for raw text in a document that is about to be written


def mutated(kind: str, mutations: Mapping[str, Mutation], contents: bytes, chance: random.Random) -> bytes:
    """The contents after one mutation."""
    return mutations[kind](contents, chance)


# Bytes


def _block(contents: bytes, chance: random.Random) -> tuple[int, int]:
    """Where a block of random length begins and ends; not empty unless the contents are."""
    start = chance.randrange(max(1, len(contents)))
    return start, min(len(contents), start + chance.randint(1, chance.choice((1, 8, 256, LARGEST_BLOCK))))


def _flipped(contents: bytes, chance: random.Random) -> bytes:
    return _flip(contents, chance, 1)


def _several_flipped(contents: bytes, chance: random.Random) -> bytes:
    return _flip(contents, chance, chance.randint(2, 64))


def _flip(contents: bytes, chance: random.Random, count: int) -> bytes:
    changed = bytearray(contents)
    for _ in range(count if changed else 0):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _truncated(contents: bytes, chance: random.Random) -> bytes:
    return contents[: chance.choice((0, 1, len(contents) // 2, len(contents) - 1, chance.randrange(len(contents) + 1)))]


def _removed(contents: bytes, chance: random.Random) -> bytes:
    start, stop = _block(contents, chance)
    return contents[:start] + contents[stop:]


def _duplicated(contents: bytes, chance: random.Random) -> bytes:
    start, stop = _block(contents, chance)
    return contents[:stop] + contents[start:stop] * chance.randint(1, 3) + contents[stop:]


def _moved(contents: bytes, chance: random.Random) -> bytes:
    start, stop = _block(contents, chance)
    rest = contents[:start] + contents[stop:]
    place = chance.randrange(len(rest) + 1)
    return rest[:place] + contents[start:stop] + rest[place:]


def _overwritten(contents: bytes, chance: random.Random) -> bytes:
    start, stop = _block(contents, chance)
    fill = chance.choice((bytes(stop - start), b"\xff" * (stop - start), chance.randbytes(stop - start)))
    return contents[:start] + fill + contents[stop:]


def _extended(contents: bytes, chance: random.Random) -> bytes:
    return contents + chance.choice((b"\0", b"}", b"\n", bytes(LARGEST_BLOCK), chance.randbytes(64), contents))


def _renumbered(contents: bytes, chance: random.Random) -> bytes:
    """One number that is written in digits is another, of as many digits or of many more."""
    numbers = list(re.finditer(rb"\d+", contents[:1_000_000]))
    if not numbers:
        return contents
    start, stop = chance.choice(numbers).span()
    same = "".join(chance.choice("0123456789") for _ in range(stop - start))
    other = chance.choice((same, "0", "-1", "1e9", str(1 << 31), str(1 << 63), "9" * 5000))
    return contents[:start] + other.encode() + contents[stop:]


BYTES: dict[str, Mutation] = {
    "one bit": _flipped,
    "several bits": _several_flipped,
    "truncated": _truncated,
    "block removed": _removed,
    "block duplicated": _duplicated,
    "block moved": _moved,
    "block overwritten": _overwritten,
    "extended": _extended,
    "other number": _renumbered,
}


# JSON


def _structural(change: Callable[[Any, Any, random.Random], str | None]) -> Mutation:
    """A mutation of one member of an object or a list somewhere in a document.

    ``change`` gets the container, a key or an index of it, and the generator; what it returns is written, as it is, in
    the place of the member. None: it has changed the container itself.
    """

    def mutation(contents: bytes, chance: random.Random) -> bytes:
        try:
            document = json.loads(contents)
        except (ValueError, RecursionError):
            return contents
        container, key = _member(document, chance)
        if container is None:
            return contents
        raw = change(container, key, chance)
        if raw is not None:
            container[key] = PLACE
        text = json.dumps(document, indent=1)
        return text.replace(json.dumps(PLACE), raw or "", 1).encode("utf-8", "surrogatepass")

    return mutation


def _member(document: Any, chance: random.Random) -> tuple[Any, Any]:
    """A container and one of its keys or indices; parts near the root are likelier than each of a long list."""
    container, key = None, None
    value = document
    while isinstance(value, (dict, list)) and value and (container is None or chance.random() < 0.7):
        container = value
        key = chance.choice(list(value)) if isinstance(value, dict) else chance.randrange(len(value))
        value = container[key]
    return container, key


def _other_type(container: Any, key: Any, chance: random.Random) -> str:
    value = container[key]
    others = ["null", "true", "false", "0", "1", "-1", "1.5", '""', '"1"', "[]", "{}", '["a"]', '{"a": 1}', "[[]]"]
    others += [json.dumps([value]), json.dumps({"value": value}), json.dumps(str(value))]
    return chance.choice(others)


def _huge_number(container: Any, key: Any, chance: random.Random) -> str:
    powers = (1 << 15, 1 << 31, 1 << 32, 1 << 53, 1 << 63, 1 << 64, 10**18, 10**400)
    number = str(chance.choice(powers) - chance.choice((0, 1)))
    return chance.choice((number, "-" + number, "1e308", "1e999", "-1e999", "5e-324", "9" * 5000, "0.1" + "0" * 5000))


def _no_number(container: Any, key: Any, chance: random.Random) -> str:
    return chance.choice(("NaN", "Infinity", "-Infinity", "01", "+1", ".5", "0x10", "1_000", "--1"))


def _near_number(container: Any, key: Any, chance: random.Random) -> str | None:
    value = container[key]
    if type(value) not in (int, float):
        return _other_type(container, key, chance)
    return json.dumps(chance.choice((value + 1, value - 1, value * 2, value // 2, -value, float(value), value + 0.5)))


def _deep(container: Any, key: Any, chance: random.Random) -> str:
    depth = chance.choice((500, 5_000, DEEP))
    opening, closing = chance.choice((("[", "]"), ('{"a":', "}")))
    return opening * depth + "1" + closing * (depth if chance.random() < 0.8 else depth - 1)


def _strange_string(container: Any, key: Any, chance: random.Random) -> str:
    return json.dumps(chance.choice((*STRANGE, "x" * LONG)))


def _strange_key(container: Any, key: Any, chance: random.Random) -> str | None:
    if not isinstance(container, dict):
        return _strange_string(container, key, chance)
    names = ("\ud800", "\0", "", "../x", key + "\udfff", "x" * LONG, key.upper(), key + " ", "__class__", key[::-1])
    _renamed(container, key, chance.choice(names))
    return None


def _flipped_key(container: Any, key: Any, chance: random.Random) -> str | None:
    if not isinstance(container, dict) or not key:
        return _other_type(container, key, chance)
    place = chance.randrange(len(key))
    character = chr(ord(key[place]) ^ (1 << chance.randrange(7)))
    _renamed(container, key, key[:place] + character + key[place + 1 :])
    return None


def _renamed(container: dict[str, Any], old: str, new: str) -> None:
    items = [(new if name == old else name, value) for name, value in container.items()]
    container.clear()
    container.update(items)


def _member_removed(container: Any, key: Any, chance: random.Random) -> None:
    del container[key]


def _member_copied(container: Any, key: Any, chance: random.Random) -> None:
    """In a list the member stands twice; in an object its value gets another key's name, too."""
    if isinstance(container, list):
        container.insert(key, container[key])
    else:
        container[chance.choice(list(container))] = container[key]


def _key_twice(container: Any, key: Any, chance: random.Random) -> str:
    """A key stands twice, which JSON does not forbid; the later one counts for most parsers."""
    own = json.dumps(container[key])
    if not isinstance(container, dict):
        return own
    return f"{own}, {json.dumps(key)}: {_other_type(container, key, chance)}"


def _emptied(container: Any, key: Any, chance: random.Random) -> None:
    container.clear()


def _reencoded(contents: bytes, chance: random.Random) -> bytes:
    text = contents.decode("utf-8", "replace")
    return text.encode(chance.choice(("utf-8-sig", "utf-16", "utf-32", "utf-16-le")), "replace")


JSON: dict[str, Mutation] = {
    "other type": _structural(_other_type),
    "huge number": _structural(_huge_number),
    "no JSON number": _structural(_no_number),
    "near number": _structural(_near_number),
    "deep nesting": _structural(_deep),
    "strange string": _structural(_strange_string),
    "strange key": _structural(_strange_key),
    "bit of a key": _structural(_flipped_key),
    "member removed": _structural(_member_removed),
    "member copied": _structural(_member_copied),
    "key twice": _structural(_key_twice),
    "emptied": _structural(_emptied),
    "other encoding": _reencoded,
}
