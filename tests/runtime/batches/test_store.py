"""The facts that results have in common, whatever values the options have."""

from __future__ import annotations

import json

from neort import GenerationConfig, Model
from neort.batches import facts_of


def test_facts_come_back_from_a_file_as_they_are(model: Model) -> None:
    config = GenerationConfig(stop_strings=("a", "\ud800"), eos_token_id=(0, 1), do_sample=True, temperature=0.7)
    facts = facts_of(model.bundle, config, kv_cache="fp32")
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["kv_cache"], facts["temperature"], facts["stop_strings"]) == ("fp32", 0.7, ["a", "\ud800"])


def test_values_that_json_lacks_are_told_apart(model: Model) -> None:
    config = GenerationConfig()
    facts = []
    for bias in ({(1, 2): 0.5}, {(1, 2): 0.6}):
        object.__setattr__(config, "seed", bias)
        facts.append(facts_of(model.bundle, config)["seed"])
    assert facts == ["{(1, 2): 0.5}", "{(1, 2): 0.6}"]
