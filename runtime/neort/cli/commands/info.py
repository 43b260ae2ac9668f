"""``neort info``: what a bundle is, for people; its manifest and the figures of its verification, for programs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from ...bundle import Bundle
from ...errors import NeortError
from ...generation import OPTIONS, GenerationConfig
from ...kvcache import KVCache
from ...tokenizer import Tokenizer
from ...verification import read_stored
from ..arguments import add_bundle, bundle_of
from ..display import aligned, bytes_in_words, count_in_words
from ..streams import Output

__all__ = ["add_parser", "run"]

GRAPHS = {"decoder.onnx": "fp32", "decoder_int8_cache.onnx": "int8"}
Lines = Iterator[tuple[str, str]]


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "info", help="show a bundle's sizes, format, quality, tokenizer and options", allow_abbrev=False
    )
    add_bundle(parser, positional=True)
    parser.add_argument("--json", action="store_true", help="print the manifest and all figures of verification")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, output: Output) -> int:
    bundle = Bundle(bundle_of(args))
    stored = read_stored(bundle)
    figures = stored.figures if stored else None
    if args.json:
        output.json({**bundle.manifest, "verification": figures}, indent=1)
        return 0
    sections = (_model(bundle), _files(bundle), _quality(figures), _tokenizer(bundle), _options(bundle))
    for line in aligned([row for section in sections for row in section]):
        output.line(line)
    return 0


def _model(bundle: Bundle) -> Lines:
    spec, model = bundle.spec, bundle.manifest["model"]
    source = bundle.manifest.get("source", {})
    yield "bundle", str(bundle.path)
    yield "source", " ".join(str(each) for each in (source.get("name"), source.get("revision")) if each) or "unknown"
    family = model.get("architecture", "gpt_neo")
    yield "model", f"{family}, {spec.num_layers} layers, {spec.hidden_size} wide, {spec.num_heads} heads"
    if (count := _parameters(bundle)) is not None:
        yield "parameters", count_in_words(count)
    yield "vocabulary", f"{spec.vocab_size:,} tokens"
    local = spec.attention_layers.count("local")
    window = f"; {local} layers see the last {spec.window_size}" if local else ""
    yield "context", f"{spec.max_position_embeddings:,} positions{window}"
    yield "format", bundle.quantization
    for name, kind in GRAPHS.items():
        if name in bundle.file_names:
            cache = KVCache(spec, 1, kind)  # type: ignore[arg-type]  # the two types of cache
            each = cache.bytes_per_position
            whole = bytes_in_words(each * spec.max_position_embeddings)
            yield f"{kind} cache", f"{bytes_in_words(each)} a token, {whole} a full context"


def _parameters(bundle: Bundle) -> int | None:
    """Weights of the model, from its sizes; lm_head counts once. None where config.json says less than that."""
    try:
        config = bundle.read_json("config.json")
    except NeortError:
        return None
    spec = bundle.spec
    width = spec.hidden_size
    inner = config.get("intermediate_size") or config.get("n_inner") or 4 * width
    biases = 4 if config.get("model_type") == "gpt2" else 1
    layer = 4 * width * width + biases * width + 2 * width * inner + inner + width + 4 * width
    tied = 1 if config.get("tie_word_embeddings", True) else 2
    return (tied * spec.vocab_size + spec.max_position_embeddings) * width + spec.num_layers * layer + 2 * width


def _files(bundle: Bundle) -> Lines:
    sizes = sorted(bundle.file_sizes.items(), key=lambda item: -item[1])
    yield "files", f"{bytes_in_words(sum(size for _, size in sizes))} in {len(sizes)}"
    for name, size in sizes:
        yield f"  {name}", bytes_in_words(size)


def _quality(figures: dict[str, Any] | None) -> Lines:
    """The figures against torch, a line for each graph."""
    if figures is None:
        yield "quality", "not verified at the export; neort-export verify adds the figures"
        return
    grades = figures.get("grades") or {}
    for name, each in (figures.get("against_torch") or {}).items():
        told = [f"mean KL {each['mean_kl']:.1e}", f"top-1 agreement {each['top1_agreement']:.2%}"]
        if "perplexity_ratio" in each:
            told.append(f"perplexity {each['perplexity_ratio']:.5f} times torch's")
        yield f"quality, {name}", "; ".join([grades.get(name) or "against torch", *told])


def _tokenizer(bundle: Bundle) -> Lines:
    try:
        tokenizer = Tokenizer.from_file(bundle.file("tokenizer.json"))
    except NeortError as error:
        yield "tokenizer", str(error)
        return
    special = ", ".join(f"{text} ({token_id})" for text, token_id in list(tokenizer.special_tokens.items())[:8])
    yield "tokenizer", f"byte-level BPE, {tokenizer.vocab_size:,} tokens; special: {special or 'none'}"


def _options(bundle: Bundle) -> Lines:
    """The generation options that differ from neort's own."""
    try:
        config = GenerationConfig.from_hf(bundle.read_json("generation_config.json"))
    except NeortError as error:
        yield "options", str(error)
        return
    plain = GenerationConfig()
    own = [f"{name}={value!r}" for name in OPTIONS if (value := getattr(config, name)) != getattr(plain, name)]
    yield "options", ", ".join(own) or "neort's own defaults"
