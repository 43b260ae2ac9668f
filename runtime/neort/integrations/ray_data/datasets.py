"""Columns for the rows of any dataset: text that goes on after prompts, scores, vectors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.data import ActorPoolStrategy, Dataset

from ...bundle import Bundle, bundled_path
from ...errors import ConfigError
from ...features import Pooling, Truncation
from ...hub import find_bundle
from ...kvcache import CacheType
from ...loading import MAX_BATCH_SIZE
from .actors import AUTO, Settings, TableActor
from .works import Embedding, Generating, Scoring, Work, check_output_key

__all__ = ["Actors", "embed_dataset", "generate_dataset", "score_dataset"]


@dataclass(frozen=True)
class Actors:
    """How many actors have a model, with how many CPUs each; and how they load it, as `neort.load` has it.

    ``packed_weights`` "auto" is a folder of the user's own on each node; None keeps none. ``batch_rows`` rows are an
    actor's at a time.
    """

    workers: int = 1
    num_threads: int = 1
    max_batch_size: int = MAX_BATCH_SIZE
    kv_cache: CacheType = "fp32"
    packed_weights: str | None = AUTO
    batch_rows: int = 64


def generate_dataset(
    dataset: Dataset,
    bundle: str | Path | None = None,
    *,
    prompt_key: str = "prompt",
    output_key: str = "completion",
    id_key: str | None = None,
    negative_prompt: str | None = None,
    actors: Actors | None = None,
    **options: Any,
) -> Dataset:
    """A dataset with the text that goes on after each row's ``prompt_key``, which is text or token ids.

    It has columns ``output_key``, finish_reason, new_tokens, prompt_tokens and error, null where there is none.
    ``bundle`` is a folder that all nodes see, or the name that it was pulled by, into a cache that they see; None is
    the bundled model. ``options`` are those of GenerationConfig. A ``seed`` is counted from the row's ``id_key``: an id
    that is a whole number from 0 on adds itself, as in `neort generate --input`, any other a hash. So a row's text
    does not depend on batches or actors. Nothing is computed before the dataset is.

    Raises ConfigError and ArgumentTypeError for options that have no meaning, BundleError.
    """
    own = actors or Actors()
    work = Generating(output_key, options, negative_prompt, own.max_batch_size)
    mapped = _mapped(dataset, bundle, work, prompt_key, own, id_key)
    config, _ = work.facts(_opened(bundle))
    if config is not None and config.do_sample and config.seed is not None and id_key is None:
        raise ConfigError(f"seed is {config.seed}, and seeds belong to rows; give id_key, the column with their ids")
    return mapped


def score_dataset(
    dataset: Dataset,
    bundle: str | Path | None = None,
    *,
    prompt_key: str = "prompt",
    output_key: str = "log_likelihood",
    context_key: str | None = None,
    actors: Actors | None = None,
) -> Dataset:
    """A dataset with the log-likelihood of each row's text, after its context if ``context_key`` names one.

    It has columns ``output_key``, tokens, is_greedy and error. Raises ConfigError, BundleError.
    """
    return _mapped(dataset, bundle, Scoring(output_key, context_key), prompt_key, actors or Actors())


def embed_dataset(
    dataset: Dataset,
    bundle: str | Path | None = None,
    *,
    prompt_key: str = "prompt",
    output_key: str = "embedding",
    layer: int = -1,
    pooling: Pooling = "mean",
    normalize: bool = False,
    truncation: Truncation | None = None,
    actors: Actors | None = None,
) -> Dataset:
    """A dataset with a vector for each row's text; options are those of `Model.embed`.

    It has columns ``output_key``, a list of float32, and error. Raises ConfigError, ArgumentTypeError, BundleError.
    """
    work = Embedding(output_key, layer, pooling, normalize, truncation)
    return _mapped(dataset, bundle, work, prompt_key, actors or Actors())


def _mapped(
    dataset: Dataset, bundle: str | Path | None, work: Work, prompt_key: str, actors: Actors, id_key: str | None = None
) -> Dataset:
    check_output_key(work, prompt_key)
    path = _opened(bundle).path.resolve()
    settings = Settings(str(path), work, prompt_key, actors.max_batch_size, actors.kv_cache, actors.packed_weights)
    return dataset.map_batches(
        TableActor,
        fn_constructor_args=(settings, id_key),
        batch_size=actors.batch_rows,
        batch_format="pyarrow",
        num_cpus=actors.num_threads,
        compute=ActorPoolStrategy(size=actors.workers),
    )


def _opened(bundle: str | Path | None) -> Bundle:
    return Bundle(bundled_path() if bundle is None else find_bundle(bundle))
