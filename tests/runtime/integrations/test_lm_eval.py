"""lm-evaluation-harness on a bundle: a sentence where it is missing, and its interface where it is installed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import neort
from missing import module_as_program, run_without
from neort import ConfigError


@dataclass
class Request:
    """What lm-eval's Instance has."""

    args: tuple[Any, ...]
    doc_id: int = 0
    task_name: str = "task"


def test_without_lm_eval_the_command_says_in_a_sentence_what_to_install() -> None:
    done = run_without(("lm_eval",), module_as_program("neort.integrations.lm_eval"))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("neort.integrations.lm_eval: lm-eval cannot be imported (lm_eval")
    assert done.stderr.endswith("install it by: pip install 'neort[lm-eval]'\n")
    assert done.stderr.count("\n") == 1


def test_without_lm_eval_a_program_gets_a_missing_extra_error() -> None:
    done = run_without(("lm_eval",), "import neort.integrations.lm_eval")
    assert done.stderr.splitlines()[-1].startswith("neort.errors.MissingExtraError: lm-eval cannot be imported")


@pytest.fixture(scope="module")
def adapter(bundle_path: Path) -> Any:
    pytest.importorskip("lm_eval")
    from neort.integrations.lm_eval import NeortLM

    return NeortLM(str(bundle_path), num_threads=1)


def test_log_likelihoods_are_the_models_in_the_order_of_requests(adapter: Any) -> None:
    pairs = [("Once upon a", " time"), ("", "There was"), ("The king", " of the old country"), ("Once upon a", " hill")]
    found = adapter.loglikelihood([Request(pair, i) for i, pair in enumerate(pairs)], disable_tqdm=True)
    scores = adapter.model.score([text for _, text in pairs], [context for context, _ in pairs])
    assert found == [(score.log_likelihood, score.is_greedy) for score in scores]


def test_options_of_one_document_share_their_context(adapter: Any) -> None:
    context = "In the old town the miller's youngest son, who had no work, said to his brother:"
    options = [" come", " go home to your mother", " go home"]
    found = adapter.loglikelihood([Request((context, option)) for option in options], disable_tqdm=True)
    choice = adapter.model.choose(context, options)
    assert [value for value, _ in found] == list(choice.values)


def test_documents_are_scored_whole_and_an_empty_one_has_nothing_to_score(adapter: Any) -> None:
    document = "It was a dark night. " * 200
    found = adapter.loglikelihood_rolling([Request((text,)) for text in ("", document, "A.")], disable_tqdm=True)
    assert found[0] == 0.0
    assert found[1:] == [adapter.model.perplexity(text).log_likelihood for text in (document, "A.")]


def test_text_ends_before_the_first_stop_string_and_after_so_many_tokens(adapter: Any) -> None:
    options = {"until": [" the", ""], "max_gen_toks": 12, "do_sample": False, "temperature": 0.0}
    requests = [Request(("Once upon a time", options)), Request(("", {"max_gen_toks": 3}))]
    first, second = adapter.generate_until(requests, disable_tqdm=True)
    expected = adapter.model.generate("Once upon a time", max_new_tokens=12, do_sample=False).text
    assert first == expected.partition(" the")[0]
    assert len(adapter.model.tokenizer.encode(second)) <= 3


def test_arguments_out_of_range_are_refused(adapter: Any, bundle_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_length is 0; it must be 1 to 512"):
        type(adapter)(str(bundle_path), max_length=0)
    with pytest.raises(ConfigError, match="batch_size is 'large'"):
        type(adapter)(str(bundle_path), batch_size="large")
    with pytest.raises(ConfigError, match=r"max_gen_toks is 512; it must be below the 512 positions"):
        adapter.generate_until([Request(("a", {"max_gen_toks": 512}))], disable_tqdm=True)
    with pytest.raises(neort.ArgumentTypeError, match="colour"):
        type(adapter)(str(bundle_path), colour="red")
