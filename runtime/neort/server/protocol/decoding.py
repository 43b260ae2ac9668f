"""A body's bytes as JSON values, of which none is more than a program can bear."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from ...wording import shortened
from .errors import RequestError

__all__ = ["DEEPEST", "LONGEST_NUMBER", "decoded"]

DEEPEST = 64  # lists and objects within each other
LONGEST_NUMBER = 400  # characters


def decoded(body: bytes) -> object:
    """The JSON value in a body.

    Raises RequestError for what is no JSON in UTF-8: NaN and Infinity are none; for numbers beyond a double's range or
    of more than `LONGEST_NUMBER` characters, for names that an object has twice, and for values nested deeper than
    `DEEPEST`.
    """
    try:
        value = json.loads(
            body.decode("utf-8"),
            parse_constant=_refuse_constant,
            parse_float=_float,
            parse_int=_integer,
            object_pairs_hook=_object,
        )
    except UnicodeDecodeError as error:
        raise _invalid(f"the body is no UTF-8 at byte {error.start}; send JSON in UTF-8") from None
    except json.JSONDecodeError as error:
        raise _invalid(f"the body is no JSON at character {error.pos}: {error.msg}; send one JSON object") from None
    except RecursionError:
        raise _too_deep() from None
    if _is_deeper(value, DEEPEST):
        raise _too_deep()
    return value


def _invalid(message: str) -> RequestError:
    return RequestError(400, message, code="invalid_json")


def _too_deep() -> RequestError:
    return _invalid(f"the body's lists and objects are nested more than {DEEPEST} deep; send a flatter one")


def _refuse_constant(name: str) -> NoReturn:
    raise _invalid(f"the body holds {name}, which is no JSON; leave the field out, or send null")


def _integer(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise _invalid(f"the body holds a number of {len(digits)} characters; at most {LONGEST_NUMBER} are read")
    return int(digits)


def _float(digits: str) -> float:
    if len(digits) > LONGEST_NUMBER:
        raise _invalid(f"the body holds a number of {len(digits)} characters; at most {LONGEST_NUMBER} are read")
    number = float(digits)
    if math.isinf(number):
        raise _invalid(f"the body holds the number {shortened(digits)}, which is beyond 1.8e308; send a smaller one")
    return number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise _invalid(f"the body holds {shortened(twice)} twice in one object; leave one of them out")
    return names


def _is_deeper(value: object, depth: int) -> bool:
    """Whether lists and objects are nested deeper; looks no further than that."""
    level = [value]
    for _ in range(depth):
        level = [
            inner
            for each in level
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True
