"""How many items per second does lm-evaluation-harness score with a bundle, and with transformers on the checkpoint?

    python -m benchmarks.peers.evaluation CHECKPOINT BUNDLE TEXT [--items 500] [--batch-sizes 1,8,16] [--threads 2]

Makes a task in LAMBADA's form of passages of TEXT (Paperno et al. 2016, arXiv:1606.06031): the last word after 75
others. lm-eval's own `hf` model, in float32, takes the best of some batch sizes, tried on a few items; then the two
take turns over all of them, each in a process of its own, loading left out. Needs the extras lm-eval and export, and
accelerate. Writes results/evaluation.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ..harness.arguments import integers, script_parser
from ..harness.results import write_results

TASK = "passages"
WORDS = 75  # of a context, as in LAMBADA
TRIED = 32  # items on which batch sizes are compared
ROUNDS = 2
SLOTS = 16  # that neort reads together, its default in lm-eval


def run(args: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        write_task(Path(folder), passages(args.text.read_text(encoding="utf-8"), args.items))

        def timed(system: str, batch_size: int, items: int) -> dict[str, Any]:
            print(f"{system}, batch size {batch_size}, {items} items", flush=True)
            return in_a_process(args, folder, system, batch_size, items)

        tried = {size: timed("hf", size, TRIED)["seconds"] for size in args.batch_sizes}
        best = min(tried, key=lambda size: tried[size])
        rounds = [(timed("neort", SLOTS, args.items), timed("hf", best, args.items)) for _ in range(ROUNDS)]
    systems = {
        name: {**runs[0], "seconds": [each["seconds"] for each in runs]}
        for name, runs in zip(("neort", "hf"), zip(*rounds, strict=True), strict=True)
    }
    return {
        "checkpoint": args.checkpoint.name,
        "bundle": args.bundle.name,
        "threads": args.threads,
        "items": args.items,
        "hf_batch_sizes": {str(size): TRIED / seconds for size, seconds in tried.items()},
        "hf_batch_size": best,
        "systems": systems,
    }


def passages(text: str, count: int) -> list[dict[str, str]]:
    """Contexts and their last words, passage after passage. Raises ValueError where the text is too short."""
    words = text.split()
    starts = range(0, len(words) - WORDS, WORDS + 1)
    if len(starts) < count:
        raise ValueError(f"the text has {len(words)} words, and {count} items take {count * (WORDS + 1)}")
    return [
        {"context": " ".join(words[start : start + WORDS]), "target": words[start + WORDS]} for start in starts[:count]
    ]


def write_task(folder: Path, items: list[dict[str, str]]) -> None:
    """The task as lm-eval reads it: a description, which as JSON is YAML as well, and its items."""
    data = folder / "items.jsonl"
    data.write_text("".join(f"{json.dumps(item)}\n" for item in items), encoding="utf-8")
    described = {
        "task": TASK,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "loglikelihood",
        "doc_to_text": "{{context}}",
        "doc_to_target": "{{' ' + target}}",
        "metric_list": [
            {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
            {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        ],
    }
    (folder / f"{TASK}.yaml").write_text(json.dumps(described), encoding="utf-8")


def in_a_process(args: argparse.Namespace, folder: str, system: str, batch_size: int, items: int) -> dict[str, Any]:
    """Seconds and figures of one run of lm-eval, in a process of its own."""
    model = args.bundle if system == "neort" else args.checkpoint
    command = [sys.executable, "-m", "benchmarks.peers.evaluation", "--worker", system, str(model), folder]
    done = subprocess.run(
        [*command, str(batch_size), str(items), str(args.threads)], stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def work(system: str, model: str, folder: str, batch_size: int, items: int, threads: int) -> dict[str, Any]:
    """What a process of its own does: load the model, then time lm-eval's evaluation of the task."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    loaded = load_neort(model, batch_size, threads) if system == "neort" else load_hf(model, batch_size, threads)
    manager = TaskManager(include_path=folder, include_defaults=False)
    simple_evaluate(loaded, tasks=[TASK], task_manager=manager, limit=2, bootstrap_iters=0)  # warm
    started = time.perf_counter()
    results = simple_evaluate(loaded, tasks=[TASK], task_manager=manager, limit=items, bootstrap_iters=0)
    seconds = time.perf_counter() - started
    figures = results["results"][TASK]
    return {"seconds": seconds, "perplexity": figures["perplexity,none"], "accuracy": figures["acc,none"]}


def load_neort(bundle: str, batch_size: int, threads: int) -> Any:
    from neort.integrations.lm_eval import NeortLM

    return NeortLM(bundle, max_batch_size=batch_size, num_threads=threads)


def load_hf(checkpoint: str, batch_size: int, threads: int) -> Any:
    import torch
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(threads)
    return HFLM(pretrained=checkpoint, dtype="float32", device="cpu", batch_size=batch_size)


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("bundle", type=Path, help="of the same checkpoint")
    parser.add_argument("text", type=Path, help="UTF-8 text of which the items are made")
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--batch-sizes", type=integers, default=[1, 8, 16], help="that hf tries (1,8,16)")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        system, model, folder, batch_size, items, threads = sys.argv[2:]
        print(json.dumps(work(system, model, folder, int(batch_size), int(items), int(threads))))
        return
    write_results("evaluation", run(parse_args()))


if __name__ == "__main__":
    main()
