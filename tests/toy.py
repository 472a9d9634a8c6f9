"""A model and a split small enough for tests of the training loop: two vectors that share one code."""

import torch
from torch import nn

from mmlib.modality import Modality, NormalLikelihood


class ToySplit:
    """Rows of two correlated vectors, with values in float32."""

    def __init__(self, n: int = 96, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        code = torch.randn(n, 2, generator=generator)
        self.x = {
            "left": code @ torch.randn(2, 3, generator=generator),
            "right": code @ torch.randn(2, 4, generator=generator),
        }
        self.hidden = None

    def __len__(self):
        return len(next(iter(self.x.values())))

    def batch(self, rows, device=None):
        return {name: x[rows.to(x.device)].to(device or x.device) for name, x in self.x.items()}

    def mask(self, rows):
        return None if self.hidden is None else {"right": ~self.hidden[rows]}

    def to(self, device):
        self.x = {name: x.to(device) for name, x in self.x.items()}
        return self


class ToyEncoder(nn.Module):
    def __init__(self, n: int, latent_dim: int):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 2 * latent_dim))

    def forward(self, x):
        return self.body(x).chunk(2, -1)


class ToyModel(nn.Module):
    """A sum of two small regularised autoencoders with noise in the code and dropout: it uses both random streams."""

    def __init__(self, latent_dim: int = 2, seed: int = 0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.modalities = nn.ModuleDict(
                {
                    name: Modality(
                        name, (n,), ToyEncoder(n, latent_dim), nn.Linear(latent_dim, n), NormalLikelihood(1.0)
                    )
                    for name, n in (("left", 3), ("right", 4))
                }
            )

    def loss(self, batch, mask=None, generator=None, validate=True):
        parts = {}
        for name, x in batch.items():
            modality = self.modalities[name]
            loc, raw = modality.encoder(x)
            noise = torch.empty_like(loc).normal_(generator=generator)
            z = loc + torch.exp(0.5 * raw) * noise
            fit = modality.likelihood.log_prob(modality.decoder(z), x)
            kl = 0.5 * (loc.square() + raw.exp() - 1 - raw).sum(-1)
            parts[name] = (fit - kl) * mask[name]
        return -sum(parts.values()).mean(), parts


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
