"""Do logits depend on the number of threads, or on who else is in the batch? Every format with either cache.

    python benchmarks/threads.py [--shape gpt-neo-125m] [--threads 1,2,3,4,8,12,13,16,32,64] [--lengths 300,700,1500]

Exports two layers of a published model's shape, with random weights, in each format, and decodes behind prompts of each
length: each alone, all together, and alone on one thread. Where threads outnumber heads, onnxruntime adds up in another
order ("as onnxruntime does it"), unless a dummy stands beside the sequence ("as neort does it"). Bits depend on the
number of threads and not on that of processors, so that a small machine will do.

Writes results/threads.json: the largest absolute differences of logits.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

from common import write_results
from neort.backend import DECODERS, DecoderSession
from neort.backend import runner as session_module
from neort.bundle import Bundle, bundled_path
from neort.kvcache import CACHE_TYPES, CacheType
from neort_export import export
from neort_export.formats import FORMATS
from neort_models import recipe

STEPS = 4
SPREAD = 0.05  # of the weights: scores of a trained model's size

Floats = NDArray[np.float32]
Sequences = dict[int, dict[str, NDArray[Any]]]  # cached rows by the number of positions


def main() -> None:
    args = parse_args()
    threads, lengths = ([int(n) for n in text.split(",")] for text in (args.threads, args.lengths))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        make(args.shape, Path(folder) / "checkpoint")
        for quantization in FORMATS:
            path = Path(folder) / quantization
            bundle = Bundle(export(Path(folder) / "checkpoint", path, quantization=quantization, verify=False).path)
            for kind in CACHE_TYPES:
                if DECODERS[kind] in bundle.file_names:
                    rows.append({"format": quantization, "kv_cache": kind, **measure(bundle, kind, threads, lengths)})
                    print(rows[-1], flush=True)
        facts = {"shape": args.shape, "num_heads": bundle.spec.num_heads, "lengths": lengths}
    write_results("threads", {**facts, "rows": rows})


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="gpt-neo-125m")
    parser.add_argument("--threads", default="1,2,3,4,8,12,13,16,32,64")
    parser.add_argument("--lengths", default="300,700,1500", help="of the prompts, in tokens")
    return parser.parse_args()


def make(shape: str, folder: Path) -> None:
    """Two layers, global and local, of a published shape, with random weights and the bundled model's tokenizer."""
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    kinds = ["global", "local"]
    two = {"num_layers": 2, "attention_types": [[kinds, 1]], "attention_layers": kinds, "vocab_size": 4096}
    two |= {"bos_token_id": None, "eos_token_id": None}  # the published ones lie beyond this vocabulary
    torch.manual_seed(0)
    model = GPTNeoForCausalLM(GPTNeoConfig.from_dict(recipe(shape).config() | two))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0, SPREAD / 2 if "q_proj" in name or "k_proj" in name else SPREAD)
            if ".ln_" in name and name.endswith("weight"):
                parameter.add_(1)
    model.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).write_bytes((bundled_path() / file).read_bytes())


def measure(bundle: Bundle, kind: CacheType, threads: list[int], lengths: list[int]) -> dict[str, Any]:
    """By what each number of threads changes logits, as onnxruntime computes them and as neort does."""
    single = DecoderSession(bundle, num_threads=1, max_batch_size=len(lengths), kv_cache=kind)
    sequences = prefill(single, lengths)
    expected = alone(single, sequences)
    differences: dict[str, Any] = {"onnxruntime": {}, "neort": {}}
    for count in threads:
        with mock.patch.object(session_module, "split_below", return_value=0):
            left = DecoderSession(bundle, num_threads=count, max_batch_size=len(lengths), kv_cache=kind)
        differences["onnxruntime"][count] = compare(left, sequences, expected)
        session = DecoderSession(bundle, num_threads=count, max_batch_size=len(lengths), kv_cache=kind)
        differences["neort"][count] = compare(session, sequences, expected)
    return differences


def compare(session: DecoderSession, sequences: Sequences, expected: Floats) -> dict[str, float]:
    """Largest differences between steps alone and in a batch, and between steps alone and on one thread."""
    mine, batch = alone(session, sequences), together(session, sequences)
    return {"batch": float(np.abs(mine - batch).max()), "one_thread": float(np.abs(mine - expected).max())}


def prefill(session: DecoderSession, lengths: list[int]) -> Sequences:
    session.reserve(1, [])
    session.prefill(0, tokens(session, max(lengths)), 0, 0)
    return {length: session.read(0, 0, length) for length in lengths}


def alone(session: DecoderSession, sequences: Sequences) -> Floats:
    """Logits [n, steps, V] of each sequence by itself."""
    return np.concatenate([together(session, {length: rows}) for length, rows in sequences.items()])


def together(session: DecoderSession, sequences: Sequences) -> Floats:
    """Logits [n, steps, V] of the sequences in one batch."""
    session.reserve(len(sequences), [])
    for slot, rows in enumerate(sequences.values()):
        session.write(slot, 0, rows)
    lengths = np.array(list(sequences), np.int32)
    ids = tokens(session, STEPS)
    logits = [session.decode(np.full(len(lengths), ids[i]), lengths + np.int32(i)).copy() for i in range(STEPS)]
    return np.stack(logits, axis=1)


def tokens(session: DecoderSession, count: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(0, session.spec.vocab_size, count)


if __name__ == "__main__":
    main()
