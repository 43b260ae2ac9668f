"""Trains a small GPT-Neo, its byte-level BPE tokenizer included, from plain text files.

    python -m neort_export.training books.txt.xz -o neo-mini --minutes 50 --valid other-books.txt

With --tokenizer it takes another checkpoint's tokenizer: a smaller model made so can draft for that one. A draft for
neo-mini (it predicts other books at 5.2 nats per token, neo-mini at 4.8):

    python -m neort_export.training books.txt.xz -o neo-mini-draft --tokenizer neo-mini/tokenizer.json \
        --hidden-size 96 --num-layers 3 --num-heads 3 --batch-size 2 --steps 1600

Documents are separated by <|endoftext|>; so are files. The result is a checkpoint as Hugging Face has them:
transformers loads it, neort-export makes a bundle of it. Knows nothing about bundles. With --steps, the same
texts, options, device and threads give the same weights; with --minutes they depend on the machine's speed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neort.errors import ConfigError, MissingExtraError, NeortError

from ..bundle import staged_folder
from .corpus import END_ID, END_OF_TEXT, Corpus, TokenIds, TrainingError, draw_batches, encode, train_tokenizer

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

WARM_UP = 0.02  # share of the run in which the learning rate rises
BETAS, WEIGHT_DECAY, GRADIENT_NORM = (0.9, 0.95), 0.1, 1.0


@dataclass(frozen=True)
class Options:
    """What to train on and how, in tokens, channels and layers; every field is an option of the command."""

    texts: tuple[Path, ...]
    output: Path
    valid: Path | None = None
    tokenizer: Path | None = None  # instead of training one
    vocab_size: int = 4096
    hidden_size: int = 192
    num_layers: int = 6
    num_heads: int = 6
    context: int = 512
    window: int = 128
    batch_size: int = 8
    learning_rate: float = 3e-3
    steps: int = 3000
    minutes: float | None = None  # instead of steps
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    force: bool = False

    def __post_init__(self) -> None:
        sizes = ("hidden_size", "num_layers", "num_heads", "context", "window", "batch_size", "learning_rate")
        for name in (*sizes, "steps", "minutes", "threads"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"--{name.replace('_', '-')} {value}: must be more than 0")
        if self.hidden_size % self.num_heads:
            raise ConfigError(f"--hidden-size {self.hidden_size}: must be a multiple of --num-heads {self.num_heads}")
        if self.vocab_size < 257:
            raise ConfigError(f"--vocab-size {self.vocab_size}: at least 257, for {END_OF_TEXT} and the 256 bytes")


@dataclass
class Progress:
    """The losses of a run, and one line now and then: step, loss, tokens per second, time left."""

    tokens_per_step: int
    losses: list[float] = field(default_factory=list)  # nats per token, one per step
    started: float = field(default_factory=time.monotonic)
    _pending: list[torch.Tensor] = field(default_factory=list)
    _printed: float = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.started

    @property
    def tokens_per_second(self) -> float:
        """Mean speed of the run so far."""
        return len(self.losses) * self.tokens_per_step / self.elapsed

    @property
    def recent_loss(self) -> float:
        """Mean of the last 50 steps, in nats per token."""
        recent = self.losses[-50:]
        return sum(recent) / len(recent)

    def add(self, loss: torch.Tensor, share_done: float) -> None:
        """Takes one step's loss; reads it from the device only when it is time for a line."""
        self._pending.append(loss)
        if self.elapsed - self._printed >= (1 if sys.stdout.isatty() else 30):
            self.show(share_done)

    def show(self, share_done: float) -> None:
        """Prints the line. Raises TrainingError if a loss was not finite."""
        self.losses += [loss.item() for loss in self._pending]
        self._pending.clear()
        self._printed = self.elapsed
        if not math.isfinite(self.recent_loss):
            raise TrainingError(f"the loss is {self.recent_loss} by step {len(self.losses)}: lower --learning-rate")
        left = self.elapsed * (1 - share_done) / share_done
        line = f"step {len(self.losses)}  loss {self.recent_loss:.3f}  {self.tokens_per_second:,.0f} tokens/s"
        end = "\r" if sys.stdout.isatty() and share_done < 1 else "\n"
        print(f"{line}  {left / 60:.1f} min left   ", end=end, flush=True)


@dataclass(frozen=True)
class Quality:
    """How well a model predicts a text, separators left out."""

    nats_per_token: float
    bits_per_byte: float

    def __str__(self) -> str:
        return f"{self.nats_per_token:.4f} nats per token, {self.bits_per_byte:.4f} bits per byte"


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    checkpoint: Path
    parameters: int
    tokens: int  # in the training texts
    losses: list[float]  # nats per token, one per step
    loss: float  # mean of the last steps
    tokens_per_second: float
    valid: Quality | None


def build_model(options: Options, vocab_size: int) -> Any:
    """Returns a GPTNeoForCausalLM with random weights, whose layers are global and local in turn."""
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    pairs, odd = divmod(options.num_layers, 2)
    config = GPTNeoConfig(
        vocab_size=vocab_size,
        max_position_embeddings=options.context,
        hidden_size=options.hidden_size,
        num_layers=options.num_layers,
        num_heads=options.num_heads,
        attention_types=[[["global", "local"], pairs]] * bool(pairs) + [[["global"], 1]] * odd,
        window_size=options.window,
        bos_token_id=END_ID,
        eos_token_id=END_ID,
        pad_token_id=END_ID,
    )
    return GPTNeoForCausalLM(config)


def fuse_attention(model: Any) -> None:
    """Replaces the attention of transformers' GPT-Neo by torch's fused kernel: 1.4 times the speed on CPUs."""
    from torch.nn.functional import scaled_dot_product_attention

    def fused(attention: Any, local: bool) -> Any:
        def attend(
            query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: object
        ) -> tuple[torch.Tensor, None]:
            length = query.shape[-2]
            mask = attention.bias[:, :, :length, :length] if local else None
            product = scaled_dot_product_attention(query, key, value, mask, is_causal=not local, scale=1.0)
            return product, None

        return attend

    for block in model.transformer.h:
        block.attn.attention._attn = fused(block.attn.attention, block.attn.attention_type == "local")


def next_token_loss(model: Any, rows: torch.Tensor, **options: Any) -> torch.Tensor:
    """Cross entropy, in nats, of the tokens of each row [B, S + 1] given those before them."""
    from torch.nn.functional import cross_entropy

    hidden = model.transformer(rows[:, :-1], use_cache=False)[0]
    logits = model.lm_head(hidden).float()
    return cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), **options)


def learning_rate_factor(share_done: float) -> float:
    """Rises in a line to 1, then falls to 0 along a cosine."""
    return min(share_done / WARM_UP, (1 + math.cos(math.pi * share_done)) / 2)


def make_optimizer(model: Any) -> torch.optim.Optimizer:
    """AdamW that decays matrices, not biases and norms."""
    from torch.optim import AdamW

    weights = list(model.parameters())
    groups = [
        {"params": [weight for weight in weights if weight.ndim >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW(groups, betas=BETAS)


def fit(model: Any, tokens: TokenIds, options: Options) -> Progress:
    """Trains the model in place until the steps or the minutes are used up."""
    import torch

    device = model.device
    optimizer = make_optimizer(model)
    progress = Progress(options.batch_size * options.context)
    model.train()
    for step, rows in enumerate(draw_batches(tokens, options.context, options.batch_size, options.seed)):
        done = progress.elapsed / (60 * options.minutes) if options.minutes else (step + 0.5) / options.steps
        if step and done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * learning_rate_factor(min(done, 1))
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = next_token_loss(model, torch.from_numpy(rows).to(device))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
        optimizer.step()
        progress.add(loss.detach(), min(done, 1))
    progress.show(1)
    return progress


def evaluate(model: Any, corpus: Corpus, batch_size: int = 8) -> Quality:
    """Scores every token of a corpus in fp32, in blocks of the model's context that do not overlap.

    Separators are context, and are not scored.
    """
    import torch

    tokens = corpus.tokens
    context = model.config.max_position_embeddings
    blocks = -(-len(tokens) // context)
    padded = np.full(blocks * context + 1, END_ID, np.int64)
    padded[1 : len(tokens) + 1] = tokens
    rows = np.lib.stride_tricks.sliding_window_view(padded, context + 1)[::context]
    nats = 0.0
    model.eval()
    with torch.no_grad():
        for start in range(0, blocks, batch_size):
            batch = torch.from_numpy(rows[start : start + batch_size].copy()).to(model.device)
            nats += next_token_loss(model, batch, ignore_index=END_ID, reduction="sum").item()
    return Quality(nats / int(np.count_nonzero(tokens != END_ID)), nats / (math.log(2) * corpus.text_bytes))


def describe(options: Options, result: Result) -> str:
    """Returns the checkpoint's README: the data, the steps and the final figures."""
    names = ", ".join(path.name for path in options.texts)
    lines = [
        f"# {options.output.name}",
        f"A GPT-Neo of {result.parameters:,} parameters: {options.num_layers} layers (global and local in turn; "
        f"window {options.window}), hidden {options.hidden_size}, {options.num_heads} heads, "
        f"{options.context} positions; byte-level BPE with `{END_OF_TEXT}` = {END_ID}.",
        "",
        f"Trained by neort_export.training on {names} ({result.tokens:,} tokens): {len(result.losses):,} steps of "
        f"{options.batch_size} x {options.context} tokens, AdamW, peak rate {options.learning_rate:g}, "
        f"seed {options.seed}. Last training loss: {result.loss:.3f} nats per token.",
    ]
    if result.valid and options.valid:
        lines.append(f"On {options.valid.name}: {result.valid} (fp32, blocks of {options.context} tokens).")
    return "\n".join(lines) + "\n"


def save(model: Any, tokenizer: Tokenizer, folder: Path) -> None:
    """Writes the checkpoint: safetensors, config, generation config and the tokenizer's two files."""
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), END_OF_TEXT)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **special}
    settings["model_max_length"] = model.config.max_position_embeddings
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


@contextmanager
def reproducible(options: Options) -> Iterator[torch.device]:
    """Seeds torch, sets its threads and has it use deterministic kernels; yields the device to train on."""
    import torch

    available = torch.cuda.is_available()
    if options.device.startswith("cuda") and not available:
        raise ConfigError(f"--device {options.device}: torch sees no CUDA device here; use --device cpu")
    try:
        device = torch.device(("cuda" if available else "cpu") if options.device == "auto" else options.device)
    except RuntimeError as error:
        raise ConfigError(f"--device {options.device}: unknown; use auto, cpu or cuda") from error
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats its results only with this
    torch.use_deterministic_algorithms(device.type == "cuda")
    torch.set_num_threads(options.threads or threads)
    torch.manual_seed(options.seed)
    try:
        yield device
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.set_num_threads(threads)


def require_libraries() -> None:
    """Raises MissingExtraError if torch or transformers is not installed."""
    try:
        for library in ("torch", "transformers", "tokenizers"):
            import_module(library)
    except ImportError as error:
        raise MissingExtraError(
            f'training needs torch and transformers ({error}): pip install "neort[export]"'
        ) from error


def load_or_train_tokenizer(options: Options) -> Tokenizer:
    """Returns the tokenizer that --tokenizer names, or one of the texts' own.

    Raises TrainingError for a file that is none, or whose separator has another id than END_ID.
    """
    if options.tokenizer is None:
        return train_tokenizer(options.texts, options.vocab_size)
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(options.tokenizer))
    except Exception as error:  # tokenizers raises nothing more specific
        raise TrainingError(f"--tokenizer {options.tokenizer}: {error}") from error
    if tokenizer.token_to_id(END_OF_TEXT) != END_ID:
        raise TrainingError(f"--tokenizer {options.tokenizer}: {END_OF_TEXT} is not its token {END_ID}")
    return tokenizer


def encode_corpora(options: Options, tokenizer: Tokenizer, scratch: Path) -> tuple[Corpus, Corpus | None]:
    """Returns the training texts and the validation text as token ids, kept in files in `scratch`.

    Raises TrainingError if either is too short.
    """
    corpus = encode(options.texts, tokenizer, scratch / "train.ids")
    if len(corpus.tokens) <= options.context:
        raise TrainingError(
            f"the texts hold {len(corpus.tokens)} tokens; --context {options.context} needs "
            f"{options.context + 1}: give more text or a smaller --context"
        )
    if options.valid is None:
        return corpus, None
    held_out = encode([options.valid], tokenizer, scratch / "valid.ids")
    if not held_out.text_bytes:
        raise TrainingError(f"--valid {options.valid} holds no text")
    return corpus, held_out


def run(options: Options) -> Result:
    """Trains, evaluates and saves one checkpoint, and reports on standard output.

    Raises TrainingError (texts, target, an infinite loss), ConfigError (device) or MissingExtraError.
    """
    require_libraries()
    with (
        staged_folder(options.output, force=options.force, marker="config.json") as folder,
        tempfile.TemporaryDirectory(dir=folder) as scratch,
        reproducible(options) as device,
    ):
        tokenizer = load_or_train_tokenizer(options)
        corpus, held_out = encode_corpora(options, tokenizer, Path(scratch))
        model = build_model(options, tokenizer.get_vocab_size()).to(device)
        kinds, parameters = tokenizer.get_vocab_size(), model.num_parameters()
        print(f"{len(corpus.tokens):,} tokens of {kinds:,} kinds; {parameters:,} parameters, on {device}")
        fuse_attention(model)
        progress = fit(model, corpus.tokens, options)
        result = Result(
            checkpoint=options.output,
            parameters=parameters,
            tokens=len(corpus.tokens),
            losses=progress.losses,
            loss=progress.recent_loss,
            tokens_per_second=progress.tokens_per_second,
            valid=evaluate(model, held_out) if held_out else None,
        )
        save(model, tokenizer, folder)
        (folder / "README.md").write_text(describe(options, result), encoding="utf-8")
    print(f"wrote {options.output}" + (f"; {options.valid}: {result.valid}" if result.valid else ""))
    return result


def parse_args(arguments: Sequence[str] | None = None) -> Options:
    """Returns the command line's options. Raises ConfigError for one out of range."""
    parser = argparse.ArgumentParser(
        prog="python -m neort_export.training",
        description="Trains a small GPT-Neo and its tokenizer from plain text.",
    )
    parser.add_argument("texts", nargs="+", type=Path, metavar="TEXT", help="UTF-8 text file, .txt or .txt.xz")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="CHECKPOINT", help="folder to write")
    parser.add_argument("--valid", type=Path, metavar="TEXT", help="held-out text to measure the result on")
    parser.add_argument("--tokenizer", type=Path, metavar="FILE", help="tokenizer.json to take instead of training one")
    parser.add_argument("--force", action="store_true", help="replace a checkpoint that is there")
    length = parser.add_mutually_exclusive_group()
    for name, kind, meaning in (
        ("vocab-size", int, "entries of the tokenizer"),
        ("hidden-size", int, "channels"),
        ("num-layers", int, "layers, global and local in turn"),
        ("num-heads", int, "attention heads"),
        ("context", int, "positions, and tokens per example"),
        ("window", int, "tokens a local layer sees"),
        ("batch-size", int, "examples per step"),
        ("learning-rate", float, "peak rate"),
        ("steps", int, "length of the run in steps"),
        ("minutes", float, "length of the run in minutes, instead of steps"),
        ("seed", int, "of weights and batches"),
        ("device", str, "auto, cpu or cuda"),
        ("threads", int, "CPU threads of torch"),
    ):
        default = getattr(Options, name.replace("-", "_"))
        owner = length if name in ("steps", "minutes") else parser
        shown = "" if default is None else f" (default {default})"
        owner.add_argument(f"--{name}", type=kind, default=default, metavar=name[0].upper(), help=meaning + shown)
    values = vars(parser.parse_args(arguments))
    return Options(texts=tuple(values.pop("texts")), **values)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    try:
        run(parse_args(arguments))
    except (NeortError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted: nothing was written", file=sys.stderr)
        return 130
    return 0
