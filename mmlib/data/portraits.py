"""Faces as pictures: every part a soft shape in the face's own coordinates, drawn where it is, many faces at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 64  # pixels a side
_CHUNK = 250  # faces drawn at once
ALL = (0, SIDE, 0, SIDE)
HAIR = {
    "Black_Hair": (0.09, 0.08, 0.09),
    "Blond_Hair": (0.88, 0.74, 0.40),
    "Brown_Hair": (0.38, 0.23, 0.11),
    "Gray_Hair": (0.68, 0.68, 0.70),
}
OTHER_HAIR = (0.66, 0.26, 0.12)  # red, which CelebA has no name for
SKIN = (
    (0.93, 0.74, 0.60),
    (0.42, 0.26, 0.17),
)  # complexions lie between these; pale skin is lighter than either
PALE = (0.99, 0.91, 0.87)
Shape = Callable[[Tensor, Tensor, Callable], Tensor]


def render(has: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
    """Draws one face for each row, uint8 ``[N, 3, 64, 64]``.

    Besides the attributes, place, tilt, scale, light, complexion, clothes, colours of eyes and background, and for most
    faces the length of the hair, are drawn anew for each: no string speaks of them. Men have squarer jaws, broader
    necks and shoulders, thicker brows and mostly short hair; women have lashes and mostly long hair; whoever is not
    young has lines on forehead and cheeks.

    Args:
        has: bool ``[N]`` by attribute, spelled as CelebA does, all those of `mmlib.data.faces.ATTRIBUTES`.
        generator: source of everything that is drawn.
    """
    n = len(has["Male"])
    parts = [{name: x[i : i + _CHUNK] for name, x in has.items()} for i in range(0, n, _CHUNK)]
    return torch.cat([_Portraits(part, generator).draw() for part in parts])


class _Portraits:
    """Some faces while they are drawn: coordinates u to the right and v down, in pixels from the middle of the face."""

    def __init__(self, has: Mapping[str, Tensor], generator: torch.Generator) -> None:
        self.has, self.generator, self.n = has, generator, len(has["Male"])
        uniform = self.uniform
        centre, tilt, scale = uniform(-1.5, 1.5, 2) + 32.5, uniform(-0.09, 0.09), uniform(0.95, 1.05)
        axis = torch.arange(SIDE) + 0.5
        x = (axis[None, None, :] - centre[:, 0, None, None]).expand(self.n, SIDE, SIDE)
        y = (axis[None, :, None] - centre[:, 1, None, None] - 1).expand(self.n, SIDE, SIDE)
        turn, zoom = tilt[:, None, None], scale[:, None, None]
        self.u = (x * turn.cos() + y * turn.sin()) / zoom
        self.v = (y * turn.cos() - x * turn.sin()) / zoom
        # what several parts share
        self.male, self.young = has["Male"].float(), has["Young"].float()
        pale, dark = torch.tensor(PALE), torch.tensor(SKIN)
        complexion = uniform(0, 1, 1).square()  # light ones are more frequent in CelebA
        self.skin = dark[0] * (1 - complexion) + dark[1] * complexion + uniform(-0.02, 0.02, 3)
        self.skin = torch.where(has["Pale_Skin"][:, None], pale, self.skin)
        self.hair = torch.tensor(OTHER_HAIR).expand(self.n, 3)
        for name, colour in HAIR.items():
            self.hair = torch.where(has[name][:, None], torch.tensor(colour), self.hair)
        self.hair = (self.hair + uniform(-0.04, 0.04, 3)).clamp(0, 1)
        self.long = uniform(0, 1) < torch.where(has["Male"], 0.06, 0.88)
        self.wide = (13 + 0.5 * self.male) * (1 + 0.22 * has["Chubby"])

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Numbers for each face, [n, *shape]."""
        return low + (high - low) * torch.rand(self.n, *shape, generator=self.generator)

    def lay(
        self,
        shape: Shape,
        colour: Tensor | tuple,
        window: tuple[int, int, int, int] = ALL,
        who: Tensor | None = None,
        opacity: float = 1.0,
        shade: Shape | None = None,
    ) -> None:
        """Lay a colour, one for all or [n, 3], over the pictures where a shape, pixels from its edge, is positive.

        Args:
            shape: takes u and v [k, h, w] of the pixels, and a function that makes numbers [n] fit them.
            colour: what is laid.
            window: top, bottom, left and right of the pixels that are looked at.
            who: bool [n], the faces that have this part; None: all.
            opacity: of the colour.
            shade: as ``shape``, added to the colour, so that it shows on black, too.
        """
        chosen = torch.arange(self.n) if who is None else who.nonzero()[:, 0]
        if not len(chosen):
            return
        top, bottom, left, right = window
        rows, columns = slice(top, bottom), slice(left, right)

        def of(x):
            return x[chosen][:, None, None] if isinstance(x, Tensor) else x

        u, v = self.u[chosen, rows, columns], self.v[chosen, rows, columns]
        cover = opacity * torch.sigmoid(2.5 * shape(u, v, of))[:, None]
        colour = torch.as_tensor(colour).expand(self.n, 3)[chosen][:, :, None, None]
        if shade is not None:
            colour = (colour + shade(u, v, of)[:, None]).clamp(0, 1)
        under = self.picture[chosen, :, rows, columns]
        self.picture[chosen, :, rows, columns] = under + cover * (colour - under)

    def draw(self) -> Tensor:
        """All parts from back to front, then light, noise and blur: uint8 [n, 3, 64, 64]."""
        high, low = (self.uniform(0.25, 0.9, 1) + self.uniform(-0.12, 0.12, 3) for _ in range(2))
        fall = torch.linspace(0, 1, SIDE)[None, None, :, None]
        ground = high[:, :, None, None] * (1 - fall) + low[:, :, None, None] * fall
        self.picture = ground.expand(self.n, 3, SIDE, SIDE).contiguous()
        self._hair_behind()
        self._shoulders()
        self._head()
        self._beard()
        self._eyes()
        self._nose_and_mouth()
        self._lines()
        self._hair_before()
        self._worn()
        return self._seen()

    def _texture(self) -> Shape:
        """Strands of straight hair, waves of wavy hair, and neither in all other hair."""
        straight, wavy = self.has["Straight_Hair"].float(), self.has["Wavy_Hair"].float()
        phase = self.uniform(0, 6.28)

        def shade(u: Tensor, v: Tensor, of: Callable) -> Tensor:
            bent = u + 2.2 * of(wavy) * torch.sin(0.75 * v + of(phase))
            return 0.11 * of(straight + wavy) * torch.sin(1.4 * bent)

        return shade

    def _hair_behind(self) -> None:
        self.strands, wave = self._texture(), 1.6 * self.has["Wavy_Hair"]
        some = ~self.has["Bald"]

        def long(u: Tensor, v: Tensor, of: Callable) -> Tensor:
            side = 16.5 + 0.06 * v + of(wave) * torch.sin(0.9 * v)
            return torch.minimum(torch.minimum(side - u.abs(), 22 - v), ellipse(0, 4, 18.5, 25)(u, v, of))

        self.lay(long, 0.85 * self.hair, (6, 64, 4, 60), some & self.long, shade=self.strands)
        self.lay(ellipse(0, -4.5, 15 + wave / 2, 15.5), 0.85 * self.hair, (6, 50, 10, 55), some & ~self.long)

    def _shoulders(self) -> None:
        tie = self.has["Wearing_Necktie"]
        clothes = torch.where(tie[:, None], self.uniform(0.1, 0.3, 3), self.uniform(0.1, 0.9, 3))
        neck = 5.2 + 1.8 * self.male
        self.lay(ellipse(0, 38, 22 + 4 * self.male, 14), clothes, (48, 64, 0, 64))
        self.lay(
            lambda u, v, of: of(neck) - u.abs() - (v - 25).clamp_min(0), 0.9 * self.skin, (40, 64, 20, 46)
        )
        shirt = torch.tensor((0.95, 0.95, 0.97))
        self.lay(
            lambda u, v, of: torch.minimum(7 - u.abs() - 0.3 * (v - 22), v - 21), shirt, (48, 64, 18, 48), tie
        )
        knot = self.uniform(0.05, 0.75, 3) * torch.tensor((1.0, 0.5, 1.0))
        self.lay(
            lambda u, v, of: torch.minimum(1.6 + 0.12 * (v - 21) - u.abs(), v - 21),
            knot,
            (48, 64, 24, 42),
            tie,
        )

        def beads(u: Tensor, v: Tensor, of: Callable) -> Tensor:
            ring = 1.0 - ((u / 1.15).square() + (v - 17).square()).sqrt().sub(8.5).abs()
            return torch.minimum(ring, v - 19)

        self.lay(beads, (0.95, 0.83, 0.35), (48, 64, 16, 50), self.has["Wearing_Necklace"])

    def _head(self) -> None:
        square = 2 + 0.9 * self.male

        def face(u: Tensor, v: Tensor, of: Callable) -> Tensor:
            power = torch.where(v > 0, of(square), 2.0)
            inside = (u / of(self.wide)).abs().pow(power) + (v / 17.5).abs().pow(power)
            return (1 - inside.clamp_min(1e-4).pow(1 / power)) * 14

        self.face = face
        for side in (-1, 1):
            self.lay(ellipse(side * self.wide, 0.5, 2, 3.5), 0.93 * self.skin, (24, 44, 10, 56))
        self.lay(face, self.skin, (11, 56, 12, 54))
        for side in (-1, 1):
            pink = ellipse(side * 7.5, 5, 3.6, 2.8)
            self.lay(pink, (0.93, 0.35, 0.38), (30, 48, 16, 50), self.has["Rosy_Cheeks"], 0.5)

    def _beard(self) -> None:
        has, dark = self.has, 0.75 * self.hair
        dark = torch.where(has["Bald"][:, None], torch.tensor((0.22, 0.15, 0.10)), dark)
        stubble, goatee = has["5_o_Clock_Shadow"], has["Goatee"]

        def jaw(u: Tensor, v: Tensor, of: Callable) -> Tensor:
            edge = torch.minimum(self.face(u, v, of), v - 4.5)
            mouth = (1 - ((u / 6.5).square() + ((v - 9) / 3.2).square()).sqrt()) * 3
            return torch.minimum(edge, -mouth)

        self.lay(jaw, (0.20, 0.21, 0.25), (34, 56, 14, 52), stubble, 0.35)
        self.lay(jaw, dark, (34, 56, 14, 52), ~has["No_Beard"] & ~stubble & ~goatee)
        self.lay(ellipse(0, 15, 4.2, 3.2), dark, (40, 58, 22, 44), goatee)
        self.lay(ellipse(0, 6.7, 5.8, 1.5), dark, (32, 48, 20, 46), has["Mustache"])
        for side in (-1, 1):
            self.lay(ellipse(side * (self.wide - 1.4), 2, 1.8, 6.5), dark, (24, 48, 10, 56), has["Sideburns"])

    def _eyes(self) -> None:
        has = self.has
        iris = self.uniform(0.05, 0.45, 3)
        height = torch.where(has["Narrow_Eyes"], 0.75, 2.1)
        thick = 0.55 + 0.25 * self.male + 0.9 * has["Bushy_Eyebrows"]
        arch, brow = 2.4 * has["Arched_Eyebrows"], 0.6 * self.hair
        brow = torch.where(has["Bald"][:, None], torch.tensor((0.25, 0.18, 0.12)), brow)
        lid = 0.45 * self.skin
        for side in (-1, 1):
            at = side * 5.6
            window = (22, 42, 16, 34) if side < 0 else (22, 42, 31, 49)
            bag = _crescent(at, 1.3, 3.2, 1.5)
            self.lay(bag, 0.55 * self.skin, window, has["Bags_Under_Eyes"], 0.8)
            self.lay(ellipse(at, -2.4, 3.9, height + 1), lid, window, ~has["Male"], 0.75)  # lashes
            white = ellipse(at, -2, 3.2, height)
            self.lay(white, (0.97, 0.97, 0.97), window)
            round_ = ellipse(at, -2, 1.5, 1.5)
            self.lay(
                lambda u, v, of, a=white, b=round_: torch.minimum(a(u, v, of), b(u, v, of)), iris, window
            )

            def line(u: Tensor, v: Tensor, of: Callable, at: float = at) -> Tensor:
                bend = 1 - ((u - at) / 4).square()
                return torch.minimum(of(thick) - (v + 6.3 + of(arch) * bend).abs(), 4 - (u - at).abs())

            self.lay(line, brow, (18, 36, *window[2:]))

    def _nose_and_mouth(self) -> None:
        has = self.has
        big, full = has["Big_Nose"].float(), has["Big_Lips"].float()
        self.lay(ellipse(0, 3.6, 1.9 + 1.7 * big, 1.3 + 0.9 * big), 0.78 * self.skin, (28, 44, 24, 42))
        self.lay(lambda u, v, of: torch.minimum(0.5 - (u - 0.9).abs(), 3.5 - (v - 0.5).abs()), 0.82 * self.skin,
                 (26, 42, 26, 40))  # fmt: skip
        own = self.skin * torch.tensor((0.86, 0.62, 0.60))
        painted = torch.tensor((0.80, 0.06, 0.18)) + self.uniform(-0.08, 0.08, 3) * torch.tensor(
            (1.0, 0.5, 1.0)
        )
        lips = torch.where(has["Wearing_Lipstick"][:, None], painted.clamp(0, 1), own)
        gap, thick = 1.1 * has["Mouth_Slightly_Open"], 0.75 + 1.0 * full
        smile, half = has["Smiling"].float(), 4.8 + 1.0 * has["Smiling"]

        def opening(room: Tensor) -> Shape:
            def shape(u: Tensor, v: Tensor, of: Callable) -> Tensor:
                along = (u / of(half)).square()
                middle = 10.2 - (3.6 * of(smile) - 0.6) * along
                return torch.minimum(of(room) * (1.15 - along) - (v - middle).abs(), of(half) - u.abs())

            return shape

        window = (36, 52, 20, 46)
        self.lay(opening(thick + gap), lips, window)
        self.lay(opening(0.25 + 0.0 * gap), 0.55 * lips, window, ~has["Mouth_Slightly_Open"])
        self.lay(opening(gap), (0.96, 0.94, 0.92), window, has["Mouth_Slightly_Open"])

    def _lines(self) -> None:
        old = ~self.has["Young"]
        for height in (-9.5, -11.5):
            line = _band(height, 0.35, 6.5)
            self.lay(line, 0.6 * self.skin, (16, 32, 20, 46), old, 0.8)
        for side in (-1, 1):
            fold = _stroke(side * 3.8, 4.5, side * 7.2, 10.0, 0.45)
            self.lay(fold, 0.6 * self.skin, (32, 50, 18, 48), old, 0.8)
            feet = _stroke(side * 10, -2.5, side * 12.2, -4.0, 0.4)
            self.lay(feet, 0.6 * self.skin, (22, 38, 14, 52), old, 0.8)

    def _hair_before(self) -> None:
        has, wave = self.has, 0.7 * self.has["Wavy_Hair"]
        line = torch.where(has["Receding_Hairline"], -14.3, -10.3)
        line = torch.where(has["Bangs"], -6.6, line)
        across = torch.where(has["Bangs"], 0.6, 2.0)
        part = self.uniform(-4, 4) * ~has["Bangs"]
        skull = ellipse(0, -3, self.wide + 1.6, 16.5)

        def front(u: Tensor, v: Tensor, of: Callable) -> Tensor:
            low = of(line) + of(across) * ((u - of(part)).abs() - 8).clamp_min(0)
            low = low + of(wave) * torch.sin(1.4 * u)
            return torch.minimum(skull(u, v, of), low.clamp_max(2.0) - v)

        self.lay(front, self.hair, (8, 40, 12, 54), ~has["Bald"], shade=self.strands)
        self.lay(ellipse(3, -12, 3.5, 1.8), (1.0, 1.0, 1.0), (14, 28, 26, 46), has["Bald"], 0.35)

    def _worn(self) -> None:
        has = self.has
        for side in (-1, 1):
            drop = ellipse(side * (self.wide + 0.6), 6.5, 1.5, 2.3)
            self.lay(drop, (0.98, 0.85, 0.30), (32, 50, 10, 56), has["Wearing_Earrings"])
        frame = self.uniform(0.02, 0.25, 3)

        def glasses(u: Tensor, v: Tensor, of: Callable) -> Tensor:
            rim = ellipse(5.6, -2, 4.5, 3.9)(u.abs(), v, of).abs()
            bridge = torch.maximum((v + 2.4).abs(), (u.abs() - 1.2).clamp_min(0) * 2)
            arm = torch.maximum((v + 2.6).abs(), (u.abs() - 11.5).abs() - 1.5)
            return 0.75 - torch.minimum(torch.minimum(rim, bridge), arm)

        self.lay(glasses, frame, (22, 42, 12, 54), has["Eyeglasses"])
        hat, felt = has["Wearing_Hat"], self.uniform(0.1, 0.9, 3)
        dome, brim = ellipse(0, -9, 15.5, 14.5), ellipse(0, -8.5, 20, 2.2)
        self.lay(lambda u, v, of: torch.minimum(dome(u, v, of), -8.5 - v), felt, (2, 34, 6, 60), hat)
        self.lay(brim, 0.7 * felt, (14, 36, 4, 62), hat)

    def _seen(self) -> Tensor:
        light = self.uniform(0.85, 1.08)[:, None, None, None]
        side = self.uniform(-0.10, 0.10)[:, None, None, None] * torch.linspace(-1, 1, SIDE)
        picture = self.picture * (light + side)
        blurry = self.has["Blurry"]
        if blurry.any():
            soft = F.pad(picture[blurry], (4, 4, 4, 4), mode="replicate")
            picture[blurry] = F.avg_pool2d(F.avg_pool2d(soft, 5, 1), 5, 1)
        noise = 0.015 * torch.randn(picture.shape, generator=self.generator)
        return ((picture + noise).clamp(0, 1) * 255).round().byte()


def ellipse(cu, cv, a, b) -> Shape:
    """Pixels inside the edge of an ellipse with half axes a and b about (cu, cv); numbers, or one for each face."""

    def shape(u: Tensor, v: Tensor, of: Callable) -> Tensor:
        p, q = of(a), of(b)
        shorter = torch.minimum(torch.as_tensor(p), torch.as_tensor(q))
        return (1 - (((u - of(cu)) / p).square() + ((v - of(cv)) / q).square()).sqrt()) * shorter

    return shape


def _crescent(cu: float, cv: float, a: float, b: float) -> Shape:
    """The lower half of the rim of an ellipse."""
    whole = ellipse(cu, cv, a, b)
    return lambda u, v, of: torch.minimum(0.5 - whole(u, v, of).abs(), v - cv)


def _band(height: float, thick: float, half: float) -> Shape:
    """A level line."""
    return lambda u, v, of: torch.minimum(thick - (v - height).abs(), half - u.abs())


def _stroke(u0: float, v0: float, u1: float, v1: float, thick: float) -> Shape:
    """A line from one point to another."""
    du, dv = u1 - u0, v1 - v0
    square = du * du + dv * dv

    def shape(u: Tensor, v: Tensor, of: Callable) -> Tensor:
        along = (((u - u0) * du + (v - v0) * dv) / square).clamp(0, 1)
        return thick - ((u - u0 - along * du).square() + (v - v0 - along * dv).square()).sqrt()

    return shape
