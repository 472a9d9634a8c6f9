"""A Siamese network: what belongs together is near in a space that is learned for that alone (Hadsell et al. 2006)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmlib.checks import positive, whole
from mmlib.modality import Batch, Mask, Modality, all_observed, check_batch
from mmlib.nets.choice import described, likelihood_for, networks_for


class Siamese(nn.Module):
    """An encoder for each of two modalities into one space of D numbers; the nearer two items, the more related.

    Train it by `mmlib.train.fit`. In every batch each row's items are a related pair, and each item of the first
    modality beside that of another row, whatever its class, is an unrelated one: as many of both kinds.

    Args:
        modalities: two, of whose encoders the location is used and nothing else; see `siamese_for`.
        latent_dim: D.
        margin: distance beyond which unrelated items no longer repel each other.

    Raises:
        ValueError: for another number of modalities, or a margin that is not positive.

    Source: Hadsell et al. 2006; as a baseline, Shi et al. 2021, Section 4.5, which leaves all settings open.
    """

    def __init__(self, modalities: Sequence[Modality], latent_dim: int, margin: float = 1.0) -> None:
        super().__init__()
        if len(modalities) != 2:
            raise ValueError(f"modalities has {len(modalities)}; expected two")
        self.modalities = nn.ModuleDict({modality.name: modality for modality in modalities})
        self.latent_dim, self.margin = whole("latent_dim", latent_dim), positive("margin", margin)

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Where items lie, of the first modality and of the second: [B, D] and [B', D]."""
        first, second = (part.encode(batch[n], self.latent_dim)[0] for n, part in self.modalities.items())
        return first, second

    @torch.no_grad()
    def score(self, batch: Batch, all_pairs: bool = False) -> Tensor:
        """Less their distance, of the items of each row, [B], or of every item and every partner, [B, B'].

        Raises:
            ValueError: for bad input, a missing modality, or numbers of rows that differ without ``all_pairs``.
        """
        batch = {name: check_batch(self.modalities, {name: x})[0][name] for name, x in batch.items()}
        if missing := [name for name in self.modalities if name not in batch]:
            raise ValueError(f"batch holds {', '.join(batch) or 'nothing'}; expected {missing[0]}, too")
        first, second = self.embed(batch)
        if all_pairs:
            return -torch.cdist(first, second)
        if len(first) != len(second):
            found = f"batch has {len(first)} and {len(second)} rows"
            raise ValueError(f"{found}; expected as many, or all_pairs=True")
        return -torch.linalg.vector_norm(first - second, dim=-1)

    def loss(
        self,
        batch: Batch,
        mask: Mask | None = None,
        generator: torch.Generator | None = None,
        validate: bool = True,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """`hadsell_loss` of related and unrelated pairs, averaged over the batch, and both distances, [B] each.

        Raises:
            ValueError: for bad input, fewer than two rows, or a row that misses a modality.
        """
        if validate or mask is None:
            batch, mask = check_batch(self.modalities, batch, mask)
        rows = len(next(iter(batch.values())))
        if len(batch) < 2 or not all_observed(mask):
            raise ValueError("batch has rows that miss a modality; expected complete rows: drop the others")
        if rows < 2:
            raise ValueError(f"batch has {rows} row; expected two or more, or nothing is unrelated")
        first, second = self.embed(batch)
        away = torch.randint(1, rows, (1,), generator=generator, device=first.device)
        other = (torch.arange(rows, device=first.device) + away) % rows
        distances = [torch.linalg.vector_norm(first - y, dim=-1) for y in (second, second[other])]
        values = [hadsell_loss(x, kind == 0, self.margin) for kind, x in enumerate(distances)]
        objective = -(values[0] + values[1]) / 2
        parts = {"objective": objective, "related": distances[0], "unrelated": distances[1]}
        return -objective.mean(), parts


def hadsell_loss(distance: Tensor, related: bool, margin: float = 1.0) -> Tensor:
    r"""What draws related items together and pushes unrelated ones apart, up to a margin: [...].

    Equation: ``eq-hadsell``. Source: Hadsell et al. 2006, Eq. 4.
        L = 1/2 d^2 if related, 1/2 max(0, m - d)^2 if not

    ``distance`` [...] is Euclidean.
    """
    return 0.5 * (distance if related else (margin - distance).clamp(min=0)).square()


def siamese_for(data, latent_dim: int = 20, width: float = 1.0, margin: float = 1.0) -> Siamese:
    """A Siamese network of the encoders that `mmlib.nets.modalities` gives the two modalities of a data set.

    Arguments are those of `Siamese`, and ``data`` and ``width`` as there. They draw weights from torch's global state.
    """
    shapes, symbols = described(data)
    parts = []
    for name, shape in shapes.items():
        classes = symbols.get(name)
        encoder = networks_for(shape, classes)[0](shape, latent_dim=latent_dim, width=width)
        parts.append(Modality(name, shape, encoder, nn.Identity(), likelihood_for(shape, classes)))
    return Siamese(parts, latent_dim, margin)
