"""What does guidellm, which others wrote, measure of the servers that `serving.compare` compares?

    python -m benchmarks.serving.judge BUNDLE --tokenizer CHECKPOINT --guidellm GUIDELLM --name gpt-neo-125m
        [--gguf GGUF --server LLAMA_SERVER] [--clients 1 8 32] [--requests 4]

GUIDELLM is its command in an environment of its own (peers/requirements/guidellm.txt). Its concurrent profile sends
streamed completions of synthetic text to each server, the servers one after the other; prompts and answers have so many
tokens on average as --prompt and --answer say, and its own statistics are read from its JSON. It takes no notice of a
token without text: the tokenizer has to name each id of the model (`benchmarks.checkpoints.shapes --tokenizer`).

Writes results/judge-NAME.json: for each server and number of clients the output tokens per second of all clients, and
the percentiles of TTFT and ITL in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from neort.backend import available_cpus

from ..harness.arguments import script_parser
from ..harness.results import write_results
from .compare import OURS, THEIRS
from .servers import Server, llama_command, neort_command

OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def main() -> None:
    args = parse_args()
    cells = []
    for name, command in commands(args).items():
        with TemporaryDirectory() as folder, Server(command, log=Path(folder, "log")) as server:
            for clients in args.clients:
                cells.append(judged(args, server, clients, Path(folder, "judge.json")) | {"server": name})
                print(json.dumps(cells[-1]), flush=True)
    write_results(f"judge-{args.name}", {"name": args.name, "version": version(args.guidellm), "cells": cells})


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with a tokenizer.json for transformers")
    parser.add_argument("--guidellm", type=Path, required=True, help="the command guidellm")
    parser.add_argument("--name", required=True, help="results/judge-NAME.json is written")
    parser.add_argument("--gguf", type=Path, help="with --server: llama.cpp's server is judged, too")
    parser.add_argument("--server", type=Path, help="the binary llama-server")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--requests", type=int, default=4, help="of each client, at least 8 of all")
    parser.add_argument("--prompt", type=int, default=96, help="tokens of a prompt")
    parser.add_argument("--answer", type=int, default=48, help="tokens of an answer")
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--context", type=int, default=512, help="tokens of a slot of llama.cpp's server")
    parser.add_argument("--threads", type=int, default=available_cpus())
    return parser.parse_args()


def commands(args: argparse.Namespace) -> dict[str, list[str]]:
    """How the servers are started."""
    options = ["--max-batch-size", str(args.slots), "--num-threads", str(args.threads)]
    found = {OURS: neort_command(args.bundle, options)}
    if args.gguf and args.server:
        found[THEIRS] = llama_command(args.server, args.gguf, args.slots, args.context, args.threads)
    return found


def judged(args: argparse.Namespace, server: Server, clients: int, report: Path) -> dict[str, Any]:
    """What guidellm measures with so many clients. Raises subprocess.CalledProcessError where it fails."""
    settings = {
        "--backend": f"kind=openai_http,target={server.url},request_format=/v1/completions",
        "--profile": f"kind=concurrent,streams={clients}",
        "--constraint": f"kind=max_requests,count={max(8, args.requests * clients)}",
        "--tokenizer": f"kind=huggingface_auto,model={args.tokenizer.resolve()}",
        "--data": f"kind=synthetic_text,prompt_tokens={args.prompt},prompt_tokens_stdev={args.prompt // 3},"
        f"output_tokens={args.answer},output_tokens_stdev={args.answer // 3}",
        "--output": f"kind=json,path={report}",
    }
    arguments = [part for pair in settings.items() for part in pair]
    command = [str(args.guidellm), "run", *arguments, "--disable-console"]
    subprocess.run(command, check=True, env={**os.environ, **OFFLINE}, capture_output=True, text=True)
    benchmark = json.loads(report.read_text(encoding="utf-8"))["benchmarks"][0]
    return {"clients": clients} | figures(benchmark)


def figures(benchmark: dict[str, Any]) -> dict[str, Any]:
    """Of guidellm's report on one number of clients what the table shows."""
    metrics, totals = benchmark["metrics"], benchmark["metrics"]["request_totals"]

    def ranks(name: str) -> dict[str, float]:
        found = metrics[name]["successful"]["percentiles"]
        return {rank: round(found[rank], 2) for rank in ("p50", "p95", "p99")}

    tokens = metrics["output_token_count"]["successful"]["total_sum"]
    return {
        "successful": totals["successful"],
        "errored": totals["errored"] + totals["incomplete"],
        "tokens_per_second": round(tokens / benchmark["duration"], 2),
        "ttft": ranks("time_to_first_token_ms"),
        "itl": ranks("inter_token_latency_ms"),
    }


def version(command: Path) -> str:
    """guidellm's version."""
    told = subprocess.run([command, "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"\d+(\.\d+)+", told)
    return found.group() if found else told.strip()


if __name__ == "__main__":
    main()
