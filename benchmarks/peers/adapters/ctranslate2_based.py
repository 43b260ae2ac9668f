"""CTranslate2 in int8, on GPT-2's layout. It does not decode step by step, so a step is a difference of two calls."""

from __future__ import annotations

import time
from pathlib import Path

from ...harness.timing import Measure, Prompts, Timing
from .gpt2_layout import Weights, read_config


def prepare(system: str, checkpoint: Path, folder: Path) -> None:
    import ctranslate2.specs as specs
    import numpy as np
    from ctranslate2.specs import common_spec, transformer_spec

    config, weights = read_config(checkpoint), Weights(checkpoint)
    spec = transformer_spec.TransformerDecoderModelSpec.from_config(
        config["num_layers"],
        config["num_heads"],
        pre_norm=True,
        activation=common_spec.Activation.GELUTanh,
    )
    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = weights.tensor("wte.weight")
    decoder.position_encodings.encodings = weights.tensor("wpe.weight")
    _set(decoder.layer_norm, weights.tensor("ln_f.weight"), weights.tensor("ln_f.bias"), "gamma", "beta")
    decoder.projection.weight = decoder.embeddings.weight
    for i, layer in enumerate(decoder.layer):
        block = f"h.{i}"
        attention = layer.self_attention
        _norm(attention.layer_norm, weights, f"{block}.ln_1")
        _norm(layer.ffn.layer_norm, weights, f"{block}.ln_2")
        _set(attention.linear[0], weights.qkv(i), np.zeros(3 * config["hidden_size"], np.float32))
        _linear(attention.linear[1], weights, f"{block}.attn.attention.out_proj")
        _linear(layer.ffn.linear_0, weights, f"{block}.mlp.c_fc")
        _linear(layer.ffn.linear_1, weights, f"{block}.mlp.c_proj")
    spec.register_vocabulary([str(i) for i in range(config["vocab_size"])])
    spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = "0"
    assert isinstance(spec, specs.ModelSpec)
    spec.validate()
    spec.optimize(quantization="int8")
    folder.mkdir(parents=True)
    spec.save(str(folder))


def load(system: str, folder: Path, threads: int) -> Measure:
    import ctranslate2

    generator = ctranslate2.Generator(
        str(folder), device="cpu", compute_type="int8", inter_threads=1, intra_threads=threads
    )

    def generate(prompts: Prompts, new_tokens: int) -> tuple[float, list[list[int]]]:
        """Seconds and tokens of one call."""
        began = time.perf_counter()
        results = generator.generate_batch(
            [[str(token) for token in prompt] for prompt in prompts],
            beam_size=1,
            sampling_topk=1,
            min_length=new_tokens,
            max_length=new_tokens,
            include_prompt_in_result=False,
        )
        return time.perf_counter() - began, [result.sequences_ids[0] for result in results]

    def measure(prompts: Prompts, new_tokens: int) -> Timing:
        first, tokens = generate(prompts, 1)
        if new_tokens == 1:
            return Timing(first, [], tokens)
        total, tokens = generate(prompts, new_tokens)
        return Timing(first, [(total - first) / (new_tokens - 1)] * (new_tokens - 1), tokens)

    return measure


def _set(target: object, weight: object, bias: object, names: str = "weight", bias_name: str = "bias") -> None:
    setattr(target, names, weight)
    setattr(target, bias_name, bias)


def _norm(target: object, weights: Weights, name: str) -> None:
    _set(target, weights.tensor(f"{name}.weight"), weights.tensor(f"{name}.bias"), "gamma", "beta")


def _linear(target: object, weights: Weights, name: str) -> None:
    _set(target, weights.tensor(f"{name}.weight"), weights.tensor(f"{name}.bias"))
