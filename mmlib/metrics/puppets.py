"""Imaginary models whose coherence is known beforehand: they hold up real images in place of generating any.

A metric that gives a puppet another number than the one it was made with is wrong; a metric that cannot tell two
puppets apart is blind to what makes them different.
"""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmlib.checks import real


class Puppet(nn.Module):
    """'Generates' by showing random images of a split, of the right class as often as it is told to.

    Args:
        split: paired split whose images it knows and shows.
        accuracy: chance that what it shows has the class of what it is given; otherwise any other class, evenly.
            One number, or one for each modality given. From the prior, the first modality shows a random class and
            the others show the same one with this chance.
        classes: classes that it shows from the prior; default: all.

    Raises:
        ValueError: if an accuracy is not within [0, 1].
    """

    def __init__(
        self, split, accuracy: float | Mapping[str, float] = 1.0, classes: Sequence[int] | None = None
    ):
        super().__init__()
        self.modalities = nn.ModuleDict({name: nn.Identity() for name in split.items})
        self.split = split
        of = accuracy if isinstance(accuracy, Mapping) else dict.fromkeys(split.items, accuracy)
        self.accuracy = {name: real(f"accuracy of {name!r}", value, 0, 1) for name, value in of.items()}
        self.total = 1 + max(int(items.labels.max()) for items in split.items.values())
        self.classes = torch.tensor(range(self.total) if classes is None else classes)
        self.known = {
            name: dict(zip(map(_key, items.batch()), items.labels.tolist(), strict=True))
            for name, items in split.items.items()
        }

    def generate(
        self, batch, given: Collection[str], to: Collection[str], generator=None, mask=None, mean=False
    ):
        """Images of the modalities ``to``, each of the right class with the chance of the modality given."""
        source = next(iter(given))
        labels = torch.tensor([self.known[source][_key(item)] for item in batch[source]])
        return {name: self._show(name, self._distort(labels, source, generator), generator) for name in to}

    def sample(self, n: int, generator=None) -> dict[str, Tensor]:
        """Images of all modalities, [n, *shape] each."""
        labels = self.classes[torch.randint(len(self.classes), (n,), generator=generator)]
        first, *others = self.modalities
        shown = {first: self._show(first, labels, generator)}
        for name in others:
            shown[name] = self._show(name, self._distort(labels, first, generator), generator)
        return shown

    def _distort(self, labels: Tensor, given: str, generator) -> Tensor:
        wrong = torch.rand(len(labels), generator=generator) >= self.accuracy[given]
        step = torch.randint(1, self.total, labels.shape, generator=generator)  # never the same class again
        return torch.where(wrong, (labels + step) % self.total, labels)

    def _show(self, name: str, classes: Tensor, generator) -> Tensor:
        items = self.split.items[name]
        order = torch.argsort(items.labels, stable=True)
        counts = torch.bincount(items.labels, minlength=self.total)
        place = (torch.rand(len(classes), generator=generator) * counts[classes]).long()
        rows = order[(counts.cumsum(0) - counts)[classes] + place]
        return items.batch(rows)


def _key(item: Tensor) -> bytes:
    return item.float().numpy().tobytes()
