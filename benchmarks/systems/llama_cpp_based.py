"""llama.cpp through llama-cpp-python's C interface, on GPT-2's layout, in Q8_0 and Q4_0 (its lm_head in Q8_0)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gpt2_layout import Weights, read_config
from timing import Prompts, Timing, time_steps

MODEL = "model.gguf"
CONTEXT, SEQUENCES, CHUNK = 2048, 8, 512


def prepare(system: str, checkpoint: Path, folder: Path) -> None:
    import gguf

    config, weights = read_config(checkpoint), Weights(checkpoint)
    kind = gguf.GGMLQuantizationType[system.split()[-1]]
    folder.mkdir(parents=True)
    writer = gguf.GGUFWriter(folder / MODEL, "gpt2", use_temp_file=True)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config.get("intermediate_size") or 4 * config["hidden_size"])
    writer.add_block_count(config["num_layers"])
    writer.add_head_count(config["num_heads"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")

    def add(name: str, array: Any, to: Any = gguf.GGMLQuantizationType.F32) -> None:
        writer.add_tensor(name, gguf.quants.quantize(array, to), raw_dtype=to)

    add("token_embd.weight", weights.tensor("wte.weight"), gguf.GGMLQuantizationType.Q8_0)
    add("position_embd.weight", weights.tensor("wpe.weight"))
    for part in ("weight", "bias"):
        add(f"output_norm.{part}", weights.tensor(f"ln_f.{part}"))
    for i in range(config["num_layers"]):
        add(f"blk.{i}.attn_qkv.weight", weights.qkv(i), kind)
        add(f"blk.{i}.attn_qkv.bias", np.zeros(3 * config["hidden_size"], np.float32))
        for theirs, ours in LINEARS.items():
            add(f"blk.{i}.{theirs}.weight", weights.tensor(f"h.{i}.{ours}.weight"), kind)
            add(f"blk.{i}.{theirs}.bias", weights.tensor(f"h.{i}.{ours}.bias"))
        for theirs, ours in {"attn_norm": "ln_1", "ffn_norm": "ln_2"}.items():
            for part in ("weight", "bias"):
                add(f"blk.{i}.{theirs}.{part}", weights.tensor(f"h.{i}.{ours}.{part}"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


LINEARS = {"attn_output": "attn.attention.out_proj", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}


def load(system: str, folder: Path, threads: int) -> Callable[[Prompts, int], Timing]:
    import llama_cpp as llama

    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(str(folder / MODEL).encode(), llama.llama_model_default_params())
    settings = llama.llama_context_default_params()
    settings.n_ctx, settings.n_seq_max = CONTEXT * SEQUENCES, SEQUENCES
    settings.n_batch = settings.n_ubatch = CHUNK
    settings.n_threads = settings.n_threads_batch = threads
    context = llama.llama_init_from_model(model, settings)
    if not context:
        raise RuntimeError(f"llama.cpp cannot open {folder / MODEL}")
    vocab_size = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    batch = llama.llama_batch_init(CHUNK, 0, 1)
    lengths: list[int] = []

    def decode(rows: Sequence[tuple[int, int, int, bool]]) -> list[int]:
        """Run (token, position, sequence, wants logits) rows; returns the best token of those that want logits."""
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, position, 1
            batch.seq_id[i][0], batch.logits[i] = sequence, wanted
        if status := llama.llama_decode(context, batch):
            raise RuntimeError(f"llama_decode returned {status}")
        return [best(i) for i, row in enumerate(rows) if row[3]]

    def best(i: int) -> int:
        logits = ctypes.cast(llama.llama_get_logits_ith(context, i), ctypes.POINTER(ctypes.c_float))
        return int(np.ctypeslib.as_array(logits, (vocab_size,)).argmax())

    def start(prompts: Prompts) -> list[int]:
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        lengths[:] = [len(prompt) for prompt in prompts]
        tokens = []
        for sequence, prompt in enumerate(prompts):
            for at in range(0, len(prompt), CHUNK):
                rows = [(t, at + i, sequence, at + i + 1 == len(prompt)) for i, t in enumerate(prompt[at : at + CHUNK])]
                found = decode(rows)
            tokens += found
        return tokens

    def step(tokens: list[int]) -> list[int]:
        found = decode([(token, lengths[i], i, True) for i, token in enumerate(tokens)])
        lengths[:] = [length + 1 for length in lengths]
        return found

    return lambda prompts, new_tokens: time_steps(start, step, prompts, new_tokens)
