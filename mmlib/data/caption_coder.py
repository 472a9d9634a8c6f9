"""Captions as vectors: an autoencoder whose code stands for a caption where a model needs numbers, and reads it back.

An adversarial game needs vectors: what a decoder makes has to carry a gradient from the discriminator, and a word that
was chosen carries none. So captions get features, as pictures have: the codes of an autoencoder that is trained once,
on training captions alone, and then left as it is. Encoder and decoder are perceptrons with one hidden layer, and the
decoder chooses each word by itself, as in the other models of captions. What it makes of the codes of real captions is
the most that a model of codes can reach.

Source: in the place of the "char-CNN-RNN" features of Chen and Zhu 2022, Section 4.3, which were learned beside
photographs and cannot be read back; noise on codes as in Vincent et al. 2008, "Extracting and composing robust features
with denoising autoencoders", which puts it on the input.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmlib.checks import kind, real, whole

from .batches import derived_generator, rows_at
from .cache import generated
from .vocabulary import PADDING

VERSION = 1  # raise it whenever codes change, so that nothing old is read from the cache
ROWS, RATE = 64, 3e-3  # captions a step, and the rate of Adam, which falls to 0 along a line


class CaptionCoder(nn.Module):
    """Captions to codes, each of whose numbers has mean 0 and variance 1 over the training captions, and back.

    Args:
        length: L, places of a caption.
        symbols: V, size of the vocabulary.
        code: C, numbers of a code.
        units: of either hidden layer.
    """

    def __init__(self, length: int, symbols: int, code: int = 64, units: int = 256) -> None:
        super().__init__()
        self.length, self.symbols = whole("length", length), whole("symbols", symbols, PADDING + 2)
        self.code, units = whole("code", code), whole("units", units)
        # The first layer of a perceptron that sees one-hot vectors: a row for each word at each place, summed.
        self.rows = nn.EmbeddingBag(length * symbols, units, mode="sum")
        nn.init.normal_(self.rows.weight, std=length**-0.5)
        self.coding = nn.Linear(units, code)
        self.standard = nn.BatchNorm1d(code, affine=False)
        self.reading = nn.Sequential(nn.Linear(code, units), nn.ReLU(), nn.Linear(units, length * symbols))

    def raw(self, symbols: Tensor) -> Tensor:
        """What `encode` standardises, [N, C], of captions, int64 [N, L]."""
        places = torch.arange(self.length, device=symbols.device) * self.symbols
        return self.coding(torch.relu(self.rows(symbols + places)))

    @torch.no_grad()
    def encode(self, symbols: Tensor) -> Tensor:
        """Codes float32 [N, C] of captions, int64 [N, L].

        Raises:
            ValueError: for anything else, or a symbol that is not in the vocabulary.
        """
        fits = isinstance(symbols, Tensor) and symbols.dtype == torch.int64 and symbols.ndim == 2
        if not fits or symbols.shape[1] != self.length:
            expected = f"symbols, int64 of shape (N, {self.length})"
            raise ValueError(f"symbols are {_described(symbols)}; expected {expected}")
        if symbols.numel() and not 0 <= int(symbols.min()) <= int(symbols.max()) < self.symbols:
            found = f"symbols go from {int(symbols.min())} to {int(symbols.max())}"
            raise ValueError(f"{found}; expected 0 to {self.symbols - 1}")
        return self.standard(self.raw(symbols))

    def logits(self, codes: Tensor) -> Tensor:
        """A logit of every symbol at every place, [N, L, V], of codes [N, C]; none of padding.

        Raises:
            ValueError: for codes of another shape.
        """
        if codes.ndim != 2 or codes.shape[1] != self.code or not codes.is_floating_point():
            expected = f"floating point of shape (N, {self.code})"
            raise ValueError(f"codes are {_described(codes)}; expected {expected}")
        logits = self.reading(codes).unflatten(1, (self.length, self.symbols))
        return logits.index_fill(2, torch.tensor([PADDING], device=codes.device), -torch.inf)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """The likeliest symbol at every place, int64 [N, L], of codes [N, C]; what follows the end means nothing."""
        return self.logits(codes).argmax(-1)


def fit_caption_coder(
    symbols: Tensor,
    vocabulary: int,
    facts: Mapping | None = None,
    root: Path | None = None,
    code: int = 64,
    units: int = 256,
    noise: float = 0.5,
    steps: int = 1_200,
    seed: int = 0,
) -> CaptionCoder:
    """Train a coder on captions, or read it from the cache. Same captions, options, seed and machine: same weights.

    Its loss is the cross-entropy of every word up to the end, given the code of its caption, to which noise was added:
    so neighbours of a code read alike, and what a model makes need not be exact.

    Args:
        symbols: int64 ``[N, L]``: all training captions, not a fraction, so that all models have the same codes.
        vocabulary: its size.
        facts: JSON-able, what the captions are; names the coder in the cache.
        root: folder of the cache; None trains without one.
        code: numbers of a code.
        units: of either hidden layer.
        noise: standard deviation of what is added to a code, whose own is 1.
        steps: of training.
        seed: of weights, order and noise.

    Raises:
        ValueError: for captions that are none, or an impossible option.
    """
    fits = isinstance(symbols, Tensor) and symbols.dtype == torch.int64 and symbols.ndim == 2
    if not fits or len(symbols) < ROWS:
        raise ValueError(f"symbols are {_described(symbols)}; expected int64 of shape (N, L), N >= {ROWS}")
    options = {
        "code": code,
        "units": units,
        "noise": real("noise", noise, 0.0),
        "steps": whole("steps", steps),
    }
    options["seed"] = whole("seed", seed, 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        coder = CaptionCoder(symbols.shape[1], vocabulary, code, units)

    def make() -> dict[str, Tensor]:
        draw, optimizer = derived_generator(seed, 7), torch.optim.Adam(coder.parameters(), RATE, fused=True)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = RATE * (1 - step / steps)
            said = symbols[rows_at(step, len(symbols), ROWS, seed)]
            codes = coder.standard(coder.raw(said))
            logits = coder.logits(codes + noise * torch.empty_like(codes).normal_(generator=draw))
            loss = F.cross_entropy(logits.flatten(0, 1), said.flatten(), ignore_index=PADDING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():  # the mean and variance of all, in place of a running average of batches
            every = coder.raw(symbols)
            coder.standard.running_mean.copy_(every.mean(0))
            coder.standard.running_var.copy_(every.var(0))
        return coder.state_dict()

    if root is None:
        make()
    else:
        about = json.loads(json.dumps({"caption_coder": VERSION, "data": facts, "options": options}))
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]
        coder.load_state_dict(generated(Path(root) / f"caption-coder-{key}", about, make)[0])
    return coder.eval().requires_grad_(False)


def _described(x: object) -> str:
    return f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else kind(x)
