"""Small GPT-Neo and GPT-2 checkpoints, and what tests do with them: save, run in torch, run in onnxruntime, compare."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoConfig, GPTNeoForCausalLM

import neort
from neort.backend import DecoderSession
from neort.bundle import Bundle, sha256_of
from neort_export import Limits
from neort_export.bundle import write_graph
from neort_export.bundle.manifest import with_checksum
from neort_export.quantization.tensors import LazyTensor

NO_LIMITS = Limits(mean_kl=math.inf, perplexity_ratio=math.inf)  # random weights are no language model

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Model: TypeAlias = GPTNeoForCausalLM | GPT2LMHeadModel

BYTE_TOKENS = 257  # <|endoftext|>, then one token per byte
WINDOW = 16
POSITIONS = 128


def random_model(*, seed: int = 0, layers: Sequence[str] = ("global", "local"), **options: Any) -> GPTNeoForCausalLM:
    """A model with random weights, biases and gains, large enough that its logits differ between tokens.

    Not so large that attention picks single keys: there float32 itself errs by 1e-3, in torch too.
    """
    defaults = {
        "vocab_size": 311,
        "hidden_size": 32,
        "num_heads": 4,
        "window_size": WINDOW,
        "max_position_embeddings": POSITIONS,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    config = GPTNeoConfig(num_layers=len(layers), attention_types=[[list(layers), 1]], **(defaults | options))
    torch.manual_seed(seed)
    model = GPTNeoForCausalLM(config).eval()
    _randomize(model)
    return model


def random_gpt2(*, seed: int = 0, **options: Any) -> GPT2LMHeadModel:
    """A GPT-2 of two layers likewise; its scores are divided by the root of the head's width."""
    defaults = {
        "vocab_size": 311,
        "n_embd": 32,
        "n_head": 4,
        "n_layer": 2,
        "n_positions": POSITIONS,
        "bos_token_id": None,
        "eos_token_id": None,
        "attn_implementation": "eager",  # transformers 4's others take no notice of how scores are scaled
    }
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(GPT2Config(**(defaults | options))).eval()
    _randomize(model)
    return model


@torch.no_grad()
def _randomize(model: Model) -> None:
    spread = 1.4 / model.config.hidden_size**0.5
    for name, parameter in model.named_parameters():
        parameter.normal_(0.0, spread / 2 if "q_proj" in name or "k_proj" in name else spread)
        if ".ln_" in name and name.endswith("weight"):
            parameter.add_(1.0)


def save(model: Model, folder: Path, **options: Any) -> Path:
    """Write a checkpoint folder: configuration, weights and a tokenizer with one token per byte."""
    model.save_pretrained(folder, **options)
    write_byte_tokenizer(folder / "tokenizer.json")
    return folder


def write_byte_tokenizer(file: Path) -> None:
    """A byte-level tokenizer without merges, <|endoftext|> first."""
    vocab = {"<|endoftext|>": 0} | {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()), start=1)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(file))


def random_ids(count: int, vocabulary: int = BYTE_TOKENS, seed: int = 1) -> Ids:
    return np.random.default_rng(seed).integers(0, vocabulary, count)


def edit_json(file: Path, **changes: Any) -> None:
    """Change some keys of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@torch.inference_mode()
def torch_logits(model: Model, ids: Sequence[int] | Ids) -> Floats:
    """Logits [T, V] of the whole transformers model."""
    logits: Floats = model(torch.as_tensor(np.asarray(ids))[None]).logits[0].numpy()
    return logits


def torch_choices(model: Model, prompt: Ids, new: Sequence[int]) -> list[int]:
    """The most probable token after a prompt and after each token but the last that is added to it.

    If they are those that were added, greedy decoding without a cache adds them.
    """
    chosen: list[int] = torch_logits(model, [*prompt.tolist(), *new[:-1]])[len(prompt) - 1 :].argmax(-1).tolist()
    return chosen


def torch_greedy(model: Model, prompt: Ids, count: int) -> list[int]:
    """What transformers' generate adds to a prompt."""
    ids = torch.as_tensor(prompt)[None]
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count, pad_token_id=0
    )
    new: list[int] = out[0, len(prompt) :].tolist()
    return new


def mean_kl_and_perplexity_ratio(
    expected: Sequence[Floats], actual: Sequence[Floats], sequences: Sequence[Sequence[int]]
) -> tuple[float, float]:
    """KL(expected || actual) in nats per token, and actual's perplexity over expected's; computed by torch."""
    divergences, losses = [], []
    for one, other, ids in zip(expected, actual, sequences, strict=True):
        p, q = (torch.from_numpy(x).double().log_softmax(-1) for x in (one, other))
        divergences.append((p.exp() * (p - q)).sum(-1))
        following = torch.as_tensor(np.asarray(ids)[1:])[:, None]
        losses.append((p[:-1].gather(1, following) - q[:-1].gather(1, following))[:, 0])
    return float(torch.cat(divergences).mean()), float(torch.cat(losses).mean().exp())


def weight(array: Floats) -> LazyTensor:
    """An array as the exporter's passes know weights."""
    return LazyTensor(lambda start, stop: array[start:stop], array.shape)


def initializer(graph: ir.Graph, name: str) -> NDArray[Any]:
    """The values of one of a graph's weights."""
    tensor = graph.initializers[name].const_value
    assert tensor is not None, f"{name} has no value"
    return tensor.numpy()


def session_of(graph: ir.Model, bundle: Path, folder: Path) -> DecoderSession:
    """Load a decoder graph in the place of ``bundle``'s, in a copy of it."""
    shutil.copytree(bundle, folder)
    write_graph(graph, folder, "decoder.onnx")
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in ("decoder.onnx", "weights.data"):
        file = folder / name
        manifest["files"][name] = {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
    (folder / "manifest.json").write_text(json.dumps(with_checksum(manifest)))
    return DecoderSession(Bundle(folder))


def assert_same_hidden_states(model: Model, bundle: Path, texts: Sequence[str]) -> None:
    """Every layer's hidden states of each token, by `neort.Model.embed` and in torch."""
    loaded = neort.load(bundle, num_threads=1)
    for text in texts:
        with torch.no_grad():
            ids = torch.tensor([loaded.tokenizer.encode(text)])
            layers = [states[0].numpy() for states in model(ids, output_hidden_states=True).hidden_states]
        for layer in range(-len(layers), len(layers)):
            assert np.abs(loaded.embed(text, layer, pooling="none") - layers[layer]).max() < 1e-4
