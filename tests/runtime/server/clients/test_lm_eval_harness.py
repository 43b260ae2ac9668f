"""lm-evaluation-harness over HTTP gives the figures that it gives in this process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from served import Served

pytestmark = pytest.mark.filterwarnings("ignore")  # what other projects warn of is theirs


@dataclass
class Request:
    """What lm-eval's Instance has."""

    args: tuple[Any, ...]
    doc_id: int = 0
    task_name: str = "task"


@pytest.fixture(scope="module")
def remote(server: Served) -> Any:
    pytest.importorskip("lm_eval")
    for package in ("tenacity", "aiohttp"):
        pytest.importorskip(package)
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    url = f"{server.base_url}/completions"
    return LocalCompletionsAPI(base_url=url, model=server.model, tokenizer_backend="remote", max_length=512)


@pytest.fixture(scope="module")
def local(remote: Any, bundle_path: Path) -> Any:
    from neort.integrations.lm_eval import NeortLM

    return NeortLM(str(bundle_path), num_threads=1)


def test_log_likelihoods_are_equal(remote: Any, local: Any) -> None:
    pairs = [("Once upon a", " time"), ("The king", " of the old country"), ("He said that", " he had not seen her")]
    found = remote.loglikelihood([Request(pair, i) for i, pair in enumerate(pairs)], disable_tqdm=True)
    expected = local.loglikelihood([Request(pair, i) for i, pair in enumerate(pairs)], disable_tqdm=True)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=1e-4)


def test_documents_have_equal_log_likelihoods(remote: Any, local: Any) -> None:
    documents = ["The ship came home in the evening, and nobody was there to see it.", "A dog barked. " * 60]
    requests = [Request((text,), i) for i, text in enumerate(documents)]
    found = remote.loglikelihood_rolling(requests, disable_tqdm=True)
    assert found == pytest.approx(local.loglikelihood_rolling(requests, disable_tqdm=True), rel=1e-5)


def test_generated_texts_are_equal(remote: Any, local: Any) -> None:
    settings = {"until": ["\n", "."], "max_gen_toks": 24, "do_sample": False}
    prompts = ["Once upon a time there was", "The captain said"]
    requests = [Request((prompt, dict(settings)), i) for i, prompt in enumerate(prompts)]
    expected = local.generate_until(
        [Request((prompt, dict(settings)), i) for i, prompt in enumerate(prompts)], disable_tqdm=True
    )
    assert remote.generate_until(requests, disable_tqdm=True) == expected
