r"""Adversarially learned inference with scalar data x and a scalar code z, where every ratio is known and can be drawn.

    encoder side: q(x) q(z | x)        decoder side: p(z) p(x | z),  p(z) = N(0, 1)

`Pair` has any means, and densities in closed form. `play` plays the game of the linear pair with the best
discriminator at every step, from many starts at once. Everything is float64 and in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mmlib.checks import look_up, positive, real, whole
from mmlib.distributions import Diagonal, Mixture
from mmlib.lab.linear_gaussian import log_normal
from mmlib.ratios import minimax_value, non_saturating_loss

LOSSES = {"minimax": minimax_value, "non_saturating": non_saturating_loss}


@dataclass(frozen=True)
class Pair:
    """Both sides of the game for scalars."""

    data: Mixture  # q(x), of one row and one dimension
    encoder: Callable[[Tensor], Tensor]  # mean of q(z | x) as a function of x
    encoder_noise: float  # its standard deviation
    decoder: Callable[[Tensor], Tensor]  # mean of p(x | z) as a function of z
    decoder_noise: float  # its standard deviation

    @classmethod
    def example(cls, decoder_noise: float = 0.5) -> Pair:
        """Data with two peaks, an encoder and a decoder that bend, some way before they agree."""
        loc = torch.tensor([-1.3, 1.3], dtype=torch.float64).reshape(2, 1, 1)
        peaks = Mixture(Diagonal(loc, torch.full_like(loc, 0.45)), torch.full((2, 1), 0.5).double().log())
        return cls(peaks, lambda x: (1.2 * x).tanh(), 0.5, lambda z: 1.6 * (1.5 * z).tanh(), decoder_noise)

    def log_encoder(self, points: Tensor) -> Tensor:
        """Log q(x) q(z | x) at points (x, z) [..., 2]: [...]."""
        x, z = points[..., :1], points[..., 1:]
        log_data = self.data.log_prob(x.unsqueeze(-2)).squeeze(-1)
        return log_data + log_normal(z, self.encoder(x), self.encoder_noise)

    def log_decoder(self, points: Tensor) -> Tensor:
        """Log p(z) p(x | z) at points (x, z) [..., 2]: [...]."""
        x, z = points[..., :1], points[..., 1:]
        return log_normal(z, torch.zeros_like(z), 1.0) + log_normal(x, self.decoder(z), self.decoder_noise)

    def log_ratio(self, points: Tensor) -> Tensor:
        """Log-ratio of the encoder's side to the decoder's at points (x, z) [..., 2]: [...]."""
        return self.log_encoder(points) - self.log_decoder(points)

    def sample(self, rows: int, generator: torch.Generator | None = None) -> Tensor:
        """Points (x, z) of both sides, the encoder's first: [2, rows, 2]."""
        which = torch.multinomial(self.data.log_mixture[:, 0].exp(), rows, True, generator=generator)
        noise = torch.randn(4, rows, 1, generator=generator, dtype=torch.float64)
        part = self.data.components
        x = part.loc[which, 0] + part.scale[which, 0] * noise[0]
        encoded = torch.cat([x, self.encoder(x) + self.encoder_noise * noise[1]], -1)
        decoded = torch.cat([self.decoder(noise[2]) + self.decoder_noise * noise[3], noise[2]], -1)
        return torch.stack([encoded, decoded])


@dataclass(frozen=True)
class Played:
    """How a game of linear pairs went: every attribute is [steps, starts].

    Encoder: z = a x + tau e; decoder: x = w z + sigma e; data and prior N(0, 1). They agree if and only if a = w and
    tau^2 = sigma^2 = 1 - a^2: a whole line of equilibria, from codes that say nothing to codes that say everything.
    """

    encoder_slope: Tensor
    encoder_noise: Tensor
    decoder_slope: Tensor
    decoder_noise: Tensor

    @property
    def divergence(self) -> Tensor:
        """KL from the encoder's side to the decoder's, nats."""
        a, tau, w, sigma = self.encoder_slope, self.encoder_noise, self.decoder_slope, self.decoder_noise
        spread = a**2 + tau**2  # variance of z on the encoder's side
        return 0.5 * (spread - 2 + (1 - 2 * a * w + w**2 * spread) / sigma**2) + (sigma / tau).log()

    @property
    def reconstructed(self) -> Tensor:
        """Share of the variance of x that is left after encoding and decoding the mean; 1 is perfect."""
        a, tau, w = self.encoder_slope, self.encoder_noise, self.decoder_slope
        return 2 * a * w - w**2 * (a**2 + tau**2)


def play(
    starts: int,
    steps: int,
    loss: str = "non_saturating",
    entropy: float = 0.0,
    rows: int = 500,
    learning_rate: float = 0.02,
    least_noise: float = 0.1,
    generator: torch.Generator | None = None,
) -> Played:
    """Let linear encoders and decoders play against the discriminator that is best at every step.

    Args:
        starts: games, each with slopes drawn from (-1, 1) and noises from (0.4, 1).
        steps: of Adam.
        loss: ``"minimax"`` or ``"non_saturating"``.
        entropy: weight of the reconstruction term of ALICE, E_q[-log p(x | z)].
        rows: samples of each side for a step.
        learning_rate: of Adam.
        least_noise: below which no standard deviation falls.
        generator: of starts and samples.

    Raises:
        ValueError: if the loss is unknown.
    """
    objective_of = look_up("loss", loss, LOSSES)
    starts, steps, rows = whole("starts", starts), whole("steps", steps), whole("rows", rows)
    entropy, least_noise = real("entropy", entropy, 0.0), positive("least_noise", least_noise)
    first = torch.rand(4, starts, generator=generator, dtype=torch.float64)
    slopes = (2 * first[:2] - 1).requires_grad_()
    raw = (0.4 + 0.6 * first[2:] - least_noise).log().requires_grad_()
    optimiser = torch.optim.Adam([slopes, raw], positive("learning_rate", learning_rate), betas=(0.5, 0.999))
    history = []
    for _ in range(steps):
        noises = least_noise + raw.exp()
        history.append(torch.cat([slopes, noises]).detach())
        (a, w), (tau, sigma) = slopes, noises
        noise = torch.randn(4, rows, 1, generator=generator, dtype=torch.float64)
        x = torch.stack([noise[0].expand(-1, starts), w * noise[2] + sigma * noise[3]])  # [2, rows, starts]
        z = torch.stack([a * noise[0] + tau * noise[1], noise[2].expand(-1, starts)])
        with torch.no_grad():  # the discriminator stands still: its coefficients are numbers
            fa, fw, ft, fs = (value.clone() for value in (a, w, tau, sigma))
        half = 0.5 * (
            _log_scalar(x, 0.0, 1.0)
            + _log_scalar(z, fa * x, ft)
            - _log_scalar(z, 0.0, 1.0)
            - _log_scalar(x, fw * z, fs)
        )
        objective = objective_of(torch.stack([half, -half], 1))
        objective = objective - entropy * _log_scalar(x[0], w * z[0], sigma).mean()
        optimiser.zero_grad()
        (objective * starts).backward()
        optimiser.step()

    a, w, tau, sigma = torch.stack(history).unbind(1)
    return Played(a, tau, w, sigma)


def _log_scalar(value: Tensor, mean: Tensor | float, noise: Tensor | float) -> Tensor:
    """Normal log-density of scalars, elementwise."""
    log_noise = noise.log() if isinstance(noise, Tensor) else math.log(noise)
    return -0.5 * ((value - mean) / noise).square() - log_noise - 0.5 * math.log(2 * math.pi)
