"""Random JSON Schemas and regular expressions, and whether a model's texts follow them.

    python tests/support/random_grammars.py 1000    # as many of both together, on the bundled model

A text that ended by itself must follow its grammar; one that met max_new_tokens may stop anywhere.
"""

from __future__ import annotations

import collections
import json
import random
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema

import neort

WORDS = ["cat", "naïve", "Łódź", "日本語", 'a"b', "c\\d", "tab\t", "", "🦊", "x" * 30, "null", "é"]
LETTERS = "abxyzé日 -_/.,"


def random_schema(rng: random.Random) -> dict[str, Any]:
    """A schema of limited size, most of whose texts are short; some refer to themselves."""
    schema = _value(rng, 0)
    if rng.random() < 0.15:
        tree = {
            "type": "object",
            "properties": {"v": _scalar(rng), "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/tree"}]}},
            "required": ["v", "next"],
            "additionalProperties": False,
        }
        return {
            "$defs": {"tree": tree, "leaf": schema},
            "type": "object",
            "properties": {"tree": {"$ref": "#/$defs/tree"}, "leaf": {"$ref": "#/$defs/leaf"}},
            "required": rng.sample(["tree", "leaf"], rng.randint(1, 2)),
            "additionalProperties": False,
        }
    return schema


def random_regex(rng: random.Random, depth: int = 0) -> str:
    """A regular expression that Python and Rust read alike."""
    if depth == 3 or rng.random() < 0.3:
        classes = [r"[a-f]", r"[^a-y\n]", r"\d", r"[0-9a-f]{2}", r"(?:yes|no)", r".", r"\w", r"\s", r"[\W\d]"]
        return rng.choice([re.escape(rng.choice(LETTERS)), *classes])
    parts = [random_regex(rng, depth + 1) for _ in range(rng.randint(1, 3))]
    how = rng.random()
    if how < 0.5:
        return "".join(parts)
    if how < 0.7:
        return f"(?:{'|'.join(parts)})"
    low = rng.randint(0, 2)
    times = rng.choice(["?", f"{{{low + 1}}}", f"{{{low},{low + rng.randint(1, 3)}}}", "*", "+"])
    return f"(?:{''.join(parts)}){times}"


def follows(config: neort.GenerationConfig, text: str) -> bool:
    """Whether a text follows the schema or the expression of its options."""
    if config.regex is not None:
        return re.fullmatch(config.regex, text, re.ASCII) is not None
    assert isinstance(config.json_schema, str)
    try:
        jsonschema.Draft202012Validator(json.loads(config.json_schema)).validate(json.loads(text))
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


def random_config(seed: int, max_new_tokens: int = 120) -> neort.GenerationConfig:
    """Options with a random grammar, half of them a schema, and a random way to choose."""
    rng = random.Random(seed)
    grammar: Any = {"json_schema": random_schema(rng)} if seed % 2 else {"regex": random_regex(rng)}
    sampling: Any = (
        {"do_sample": True, "seed": seed, "temperature": rng.choice([0.5, 1.0, 3.0])} if seed % 4 > 1 else {}
    )
    return neort.GenerationConfig(max_new_tokens=max_new_tokens, **grammar, **sampling)


def _value(rng: random.Random, depth: int) -> dict[str, Any]:
    kind = rng.random()
    if depth == 3 or kind < 0.35:
        return _scalar(rng)
    if kind < 0.6:
        return _object(rng, depth)
    if kind < 0.75:
        low = rng.randint(0, 2)
        return {"type": "array", "items": _value(rng, depth + 1), "minItems": low, "maxItems": low + rng.randint(0, 2)}
    if kind < 0.82:
        items = [_value(rng, depth + 1) for _ in range(rng.randint(1, 3))]
        return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}
    if kind < 0.92:
        return {"anyOf": [_value(rng, depth + 1) for _ in range(rng.randint(1, 3))]}
    return {"oneOf": [{"type": "boolean"}, {"type": "string", "maxLength": 5}, _object(rng, depth)]}


def _object(rng: random.Random, depth: int) -> dict[str, Any]:
    names = rng.sample(["a", "name", "größe", "list of", '"q"', "日"], rng.randint(0, 4))
    return {
        "type": "object",
        "properties": {name: _value(rng, depth + 1) for name in names},
        "required": [name for name in names if rng.random() < 0.7],
        "additionalProperties": False,
    }


def _scalar(rng: random.Random) -> dict[str, Any]:
    low, span = rng.randint(-200, 200), rng.choice([0, 1, 7, 5000])
    return rng.choice(
        [
            {"type": "boolean"},
            {"type": "null"},
            {"type": "integer", "minimum": low, "maximum": low + span},
            {"allOf": [{"type": "integer"}, {"exclusiveMinimum": low}, {"maximum": low + span + 1}]},
            {"type": "integer", "multipleOf": rng.randint(1, 12), "minimum": 0, "maximum": 999},
            {"type": "number", "minimum": low / 8, "exclusiveMaximum": low / 8 + span + 0.5},
            {"enum": rng.sample([*WORDS, 7, None, True, [1], {"k": "ü"}], rng.randint(1, 4))},
            {"const": rng.choice([*WORDS, -3.5, {"a": [None]}])},
            {"type": "string", "minLength": rng.randint(0, 3), "maxLength": rng.randint(3, 9)},
            {"type": "string", "pattern": f"^{random_regex(rng, 2)}$"},
            {"type": "string", "format": rng.choice(["date", "time", "uuid", "ipv4"])},
            {"type": ["integer", "null"], "minimum": 0, "maximum": 9},
        ]
    )


def main(count: int) -> int:
    """Print how many ended by themselves, and what does not follow its grammar; return how many texts do not."""
    model = neort.load(num_threads=2)
    told: collections.Counter[str] = collections.Counter()

    def run(seed: int) -> tuple[str, object]:
        config = random_config(seed)
        kind = "json_schema" if config.json_schema else "regex"
        try:
            out = model.generate("Once upon a time ", config)
        except neort.NeortError as error:
            return f"{kind} refused", (config.constraint, str(error))
        if out.finish_reason == "length":
            return f"{kind} length", None
        return f"{kind} {'follows' if follows(config, out.text) else 'WRONG'}", (config.constraint, out.text)

    with ThreadPoolExecutor(8) as pool:
        for outcome, shown in pool.map(run, range(count)):
            told[outcome] += 1
            if "WRONG" in outcome or "refused" in outcome:
                sys.stdout.write(f"{outcome}: {shown}\n")
    sys.stdout.write(f"{dict(told)}\n")
    return sum(number for outcome, number in told.items() if "WRONG" in outcome)


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1])))
