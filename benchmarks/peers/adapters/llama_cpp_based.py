"""llama.cpp through llama-cpp-python's C interface, on GPT-2's layout, in Q8_0 and Q4_0 (its lm_head in Q8_0)."""

from __future__ import annotations

import ctypes
import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ...harness.timing import Measure, Prompts, Timing, time_steps
from .gpt2_layout import Weights, read_config

MODEL = "model.gguf"
CHUNK = 512  # llama.cpp's own default for a batch
LINEARS = {"attn_output": "attn.attention.out_proj", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}
NORMS = {"attn_norm": "ln_1", "ffn_norm": "ln_2"}
Row = tuple[int, int, int, bool]  # token, position, sequence, whether its logits are wanted


def prepare(system: str, checkpoint: Path, folder: Path) -> None:
    import gguf

    kinds = gguf.GGMLQuantizationType
    folder.mkdir(parents=True)
    writer = gguf.GGUFWriter(folder / MODEL, "gpt2", use_temp_file=True)
    _add_config(writer, read_config(checkpoint))
    _add_vocabulary(writer, checkpoint)
    for name, array in _tensors(checkpoint):
        kind = kinds.F32 if array.ndim == 1 or name.startswith("position") else kinds[system.split()[-1]]
        kind = kinds.Q8_0 if name.startswith("token") else kind  # also its lm_head
        writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_config(writer: Any, config: dict[str, Any]) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config.get("intermediate_size") or 4 * config["hidden_size"])
    writer.add_block_count(config["num_layers"])
    writer.add_head_count(config["num_heads"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_vocab_size(config["vocab_size"])


def _add_vocabulary(writer: Any, checkpoint: Path) -> None:
    """The checkpoint's tokenizer, which llama.cpp's server needs; ids beyond its vocabulary get a text of their own."""
    import gguf

    config = read_config(checkpoint)
    model = json.loads((checkpoint / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    tokens = {id_: token for token, id_ in model["vocab"].items()}
    end, kinds = config["eos_token_id"], gguf.TokenType
    ids = range(config["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([tokens.get(id_, f"\u0120w{id_}") for id_ in ids])
    writer.add_token_types([kinds.CONTROL if id_ == end else kinds.NORMAL for id_ in ids])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)


def _tensors(checkpoint: Path) -> Iterable[tuple[str, Any]]:
    """Every tensor under llama.cpp's name."""
    config, weights = read_config(checkpoint), Weights(checkpoint)
    yield "token_embd.weight", weights.tensor("wte.weight")
    yield "position_embd.weight", weights.tensor("wpe.weight")
    for part in ("weight", "bias"):
        yield f"output_norm.{part}", weights.tensor(f"ln_f.{part}")
    for i in range(config["num_layers"]):
        yield f"blk.{i}.attn_qkv.weight", weights.qkv(i)
        yield f"blk.{i}.attn_qkv.bias", np.zeros(3 * config["hidden_size"], np.float32)
        for theirs, ours in (LINEARS | NORMS).items():
            for part in ("weight", "bias"):
                yield f"blk.{i}.{theirs}.{part}", weights.tensor(f"h.{i}.{ours}.{part}")


def load(system: str, folder: Path, threads: int) -> Measure:
    model = _Model(folder / MODEL, threads)

    def measure(prompts: Prompts, new_tokens: int) -> Timing:
        model.open(len(prompts), len(prompts[0]) + new_tokens)
        return time_steps(model.start, model.step, prompts, new_tokens)

    return measure


class _Model:
    """A model and its context, which is made anew where a request needs a larger one."""

    def __init__(self, file: Path, threads: int) -> None:
        import llama_cpp

        self.llama = llama_cpp
        self.threads = threads
        self.llama.llama_backend_init()
        self.model = self.llama.llama_model_load_from_file(str(file).encode(), self.llama.llama_model_default_params())
        if not self.model:
            raise RuntimeError(f"llama.cpp cannot open {file}")
        self.vocab_size = self.llama.llama_vocab_n_tokens(self.llama.llama_model_get_vocab(self.model))
        self.batch = self.llama.llama_batch_init(CHUNK, 0, 1)
        self.context: Any = None
        self.size = (0, 0)
        self.length = 0

    def open(self, sequences: int, length: int) -> None:
        """Make room for so many sequences of at least so many tokens each."""
        if self.size[0] == sequences and self.size[1] >= length:
            return
        if self.context:
            self.llama.llama_free(self.context)
        settings = self.llama.llama_context_default_params()
        settings.n_ctx, settings.n_seq_max = sequences * (-(-length // 256) * 256), sequences
        settings.n_batch = settings.n_ubatch = CHUNK
        settings.n_threads = settings.n_threads_batch = self.threads
        self.context = self.llama.llama_init_from_model(self.model, settings)
        if not self.context:
            raise RuntimeError(f"llama.cpp has no memory for {sequences} sequences of {length} tokens")
        self.size = (sequences, length)

    def start(self, prompts: Prompts) -> list[int]:
        self.llama.llama_memory_clear(self.llama.llama_get_memory(self.context), True)
        self.length = len(prompts[0])
        rows = [
            (token, at, sequence, at + 1 == self.length)
            for sequence, prompt in enumerate(prompts)
            for at, token in enumerate(prompt)
        ]
        chunks = (rows[at : at + CHUNK] for at in range(0, len(rows), CHUNK))
        return list(itertools.chain.from_iterable(map(self.decode, chunks)))

    def step(self, tokens: list[int]) -> list[int]:
        found = self.decode([(token, self.length, sequence, True) for sequence, token in enumerate(tokens)])
        self.length += 1
        return found

    def decode(self, rows: list[Row]) -> list[int]:
        """Run the rows; returns the best next token after those whose logits are wanted."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, position, 1
            batch.seq_id[i][0], batch.logits[i] = sequence, wanted
        if status := self.llama.llama_decode(self.context, batch):
            raise RuntimeError(f"llama_decode returned {status}")
        return [self.best(i) for i, row in enumerate(rows) if row[3]]

    def best(self, i: int) -> int:
        logits = self.llama.llama_get_logits_ith(self.context, i)
        pointer = ctypes.cast(logits, ctypes.POINTER(ctypes.c_float))
        return int(np.ctypeslib.as_array(pointer, (self.vocab_size,)).argmax())
