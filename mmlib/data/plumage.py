"""Birds as pictures: every part a soft shape in the bird's own coordinates, many birds at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .grammar import ATTRIBUTES

SIDE = 64  # pixels a side
_CHUNK = 250  # birds drawn at once
RGB = {
    "black": (0.10, 0.10, 0.12),
    "white": (0.95, 0.95, 0.93),
    "grey": (0.55, 0.56, 0.58),
    "brown": (0.45, 0.29, 0.14),
    "red": (0.82, 0.12, 0.12),
    "orange": (0.95, 0.53, 0.08),
    "yellow": (0.96, 0.86, 0.15),
    "green": (0.22, 0.55, 0.20),
    "blue": (0.15, 0.33, 0.78),
}
# Where the sky ends, and the colours above and below.
SCENES = {
    "sky": ((0.66, 0.82, 0.95), (0.80, 0.89, 0.96)),
    "leaves": ((0.50, 0.66, 0.38), (0.40, 0.56, 0.30)),
    "water": ((0.80, 0.86, 0.88), (0.40, 0.60, 0.72)),
}
SIZES = {"small": 0.72, "medium": 0.92, "large": 1.14}


def render(attributes: Tensor, build: Tensor, generator: torch.Generator) -> Tensor:
    """Draws one bird for each row, uint8 ``[N, 3, 64, 64]``.

    Besides the attributes, which side the bird faces, its place, tilt, scale, shades and light are drawn anew for each
    picture: no caption speaks of them.

    Args:
        attributes: int64 ``[N, 10]``, in the order of ``ATTRIBUTES``.
        build: float ``[N, 3]`` from 0 to 1: how long the tail is, how stout the body, how large the head.
        generator: source of everything that is drawn.
    """
    parts = zip(attributes.split(_CHUNK), build.split(_CHUNK), strict=True)
    return torch.cat([_render(*part, generator) for part in parts])


def _render(attributes: Tensor, build: Tensor, generator: torch.Generator) -> Tensor:
    n = len(attributes)
    value = dict(zip(ATTRIBUTES, attributes.unbind(1), strict=True))

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=generator)

    def table(name: str, entries: dict) -> Tensor:
        return torch.tensor([entries[v] for v in ATTRIBUTES[name]])[value[name]]

    def paint(picture: Tensor, shape: Tensor, colour: Tensor) -> Tensor:
        """Lay a colour [N, 3] over pictures [N, 3, H, W] where a shape [N, H, W], pixels from its edge, is positive."""
        cover = torch.sigmoid(2.5 * shape)[:, None]
        return picture.lerp(colour[:, :, None, None], cover)

    flying = value["pose"] == ATTRIBUTES["pose"].index("flying")
    perched = value["pose"] == ATTRIBUTES["pose"].index("perched")
    scale = 20.0 * table("size", SIZES) * uniform(0.95, 1.05)  # pixels in a unit of the bird
    tilt = uniform(-0.15, 0.15) + 0.25 * flying
    side = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    centre = torch.stack([uniform(28, 36), uniform(30, 34) - 3.0 * flying])
    axis = torch.arange(SIDE) + 0.5
    x = (axis[None, None, :] - centre[0, :, None, None]) * side[:, None, None]
    y = (axis[None, :, None] - centre[1, :, None, None]).expand(n, SIDE, SIDE)
    x, turn = x.expand(n, SIDE, SIDE), tilt[:, None, None]
    u = (x * turn.cos() - y * turn.sin()) / scale[:, None, None]  # towards the beak
    v = (x * turn.sin() + y * turn.cos()) / scale[:, None, None]  # down

    def ellipse(cu, cv, a, b, angle=0.0) -> Tensor:
        """Pixels inside the edge of an ellipse with half axes a and b, numbers or [N], about (cu, cv)."""
        cu, cv, a, b, angle = (
            torch.as_tensor(t, dtype=u.dtype).expand(n)[:, None, None] for t in (cu, cv, a, b, angle)
        )
        du, dv = u - cu, v - cv
        p, q = du * angle.cos() + dv * angle.sin(), dv * angle.cos() - du * angle.sin()
        return (1 - ((p / a).square() + (q / b).square()).sqrt()) * torch.minimum(a, b) * scale[:, None, None]

    def below(line) -> Tensor:
        """Pixels below a height of the bird's own, a number or [N, H, W]."""
        return (v - line) * scale[:, None, None]

    def plumage(name: str) -> Tensor:
        return (table(name, RGB) + uniform(-0.06, 0.06, 3)).clamp(0, 1)

    tail, stout, head = build[:, 0], build[:, 1], build[:, 2]
    crown, back, wing, belly = (plumage(part) for part in ("crown", "back", "wing", "belly"))
    beak, dark = plumage("beak_colour"), torch.tensor([[0.06, 0.05, 0.05]]).expand(n, 3)

    # the scene: two colours, a soft border, and blotches
    high, low = (
        torch.tensor([SCENES[v][i] for v in ATTRIBUTES["background"]])[value["background"]] for i in (0, 1)
    )
    horizon = uniform(34, 50)[:, None, None]
    mixed = torch.sigmoid((axis[None, :, None] - horizon) / 2).expand(n, SIDE, SIDE)[:, None]
    blotches = F.interpolate(torch.randn(n, 1, 9, 9, generator=generator), size=(SIDE, SIDE), mode="bilinear")
    rough = torch.tensor([{"sky": 0.02, "leaves": 0.10, "water": 0.04}[v] for v in ATTRIBUTES["background"]])
    picture = high[:, :, None, None] * (1 - mixed) + low[:, :, None, None] * mixed
    picture = picture + rough[value["background"]][:, None, None, None] * blotches
    never = torch.full_like(u, -1e3)

    bottom = 0.42 + 0.10 * stout
    wood = torch.tensor([[0.36, 0.24, 0.14]]).expand(n, 3)
    foot = centre[1] + scale * (bottom + 0.30)
    branch = 2.2 - (axis[None, :, None] - foot[:, None, None]).abs().expand(n, SIDE, SIDE)
    picture = paint(picture, torch.where(perched[:, None, None], branch, never), wood)
    for place in (-0.08, 0.14):
        leg = torch.minimum(
            0.9 - (u - place).abs() * scale[:, None, None],
            torch.minimum(below(bottom[:, None, None] - 0.15), -below(bottom[:, None, None] + 0.30)),
        )
        picture = paint(picture, torch.where(flying[:, None, None], never, leg), dark)
    picture = paint(picture, ellipse(-0.75 - 0.25 * tail, 0.12, 0.32 + 0.25 * tail, 0.10, -0.25), back)
    high_wing = ellipse(-0.15, -0.50, 0.20, 0.55, 0.35)
    picture = paint(picture, torch.where(flying[:, None, None], high_wing, never), 0.8 * wing)
    body = ellipse(0.0, 0.0, 0.72, bottom)
    picture = paint(picture, body, back)
    picture = paint(picture, torch.minimum(body, below(0.12 - 0.25 * u)), belly)
    round_head = 0.30 + 0.08 * head
    at = torch.stack([0.62 + 0 * head, -0.38 - 0.08 * head])

    reach = torch.where(value["beak_length"] == 1, 0.56, 0.26)
    start, thick = at[0] + 0.75 * round_head, 0.17
    along = (u - start[:, None, None]) / reach[:, None, None]  # 0 at the head, 1 at the tip
    middle = at[1, :, None, None] + 0.04
    narrow = torch.minimum(thick * (1 - along) - (v - middle).abs(), u - start[:, None, None] + 0.1)
    bent = middle + 0.30 * along.clamp(0, 1.3).square()
    hook = torch.minimum(
        thick * (1.15 - along).clamp(-1, 0.8) - (v - bent).abs(), u - start[:, None, None] + 0.1
    )
    blunt = ellipse(start, at[1] + 0.04, reach, 0.18) / scale[:, None, None]
    shape = torch.stack([narrow, hook, blunt])[value["beak_shape"], torch.arange(n)] * scale[:, None, None]
    picture = paint(picture, shape, beak)

    skull = ellipse(at[0], at[1], round_head, round_head)
    picture = paint(picture, skull, belly)
    picture = paint(picture, torch.minimum(skull, -below(at[1, :, None, None] - 0.02)), crown)
    picture = paint(picture, ellipse(at[0] + 0.12, at[1] + 0.03, 0.055, 0.055), dark)
    picture = paint(picture, ellipse(at[0] + 0.135, at[1] + 0.015, 0.02, 0.02), torch.ones(n, 3))

    folded, raised = ellipse(-0.16, 0.02, 0.46, 0.20, -0.18), ellipse(-0.05, -0.48, 0.24, 0.62, -0.25)
    near = torch.where(flying[:, None, None], raised, folded)
    picture = paint(picture, near, wing)
    edge = 0.7 - near.abs()  # a thin line around the wing: it shows on a back of the same colour
    picture = paint(picture, edge, 0.75 * wing)

    light = uniform(0.88, 1.08)[:, None, None, None]
    noise = 0.015 * torch.randn(picture.shape, generator=generator)
    return ((picture * light + noise).clamp(0, 1) * 255).round().byte()


def reduced(pictures: Tensor, size: int) -> Tensor:
    """Pictures uint8 ``[N, 3, 64, 64]`` as the mean of blocks of pixels, ``size`` a side."""
    block = pictures.shape[-1] // size
    if block == 1:
        return pictures
    return torch.cat([F.avg_pool2d(part.float(), block).round().byte() for part in pictures.split(2_000)])
