"""Encoders that see all modalities at once, for JMVAE's q(z | x_1, ..., x_M).

``JointEncoder`` joins features and works for any number of modalities; ``ImageJointEncoder`` is Shi et al.
2021, Table 4a, which joins two images side by side before the first layer. Both map a batch (a dict of tensors
[B, *shape]) to a location and an unconstrained scale, [B, D] each.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmlib.modality import Batch, Shapes, module_name
from mmlib.nets.choice import described, networks_for
from mmlib.nets.common import Encoder, check_items, scaled
from mmlib.nets.convolutions import ToCode
from mmlib.nets.svhn import channel_plan, downsampler, map_sizes


def check_complete(batch: Batch, shapes: Shapes) -> dict[str, Tensor]:
    """The modalities of a joint encoder, in its own order, each checked.

    Raises:
        ValueError: if one is missing, has another shape, or another number of rows than the first.
    """
    missing = [name for name in shapes if name not in batch]
    if missing:
        raise ValueError(f"batch lacks {missing}; a joint encoder needs all of {list(shapes)}")
    checked = {name: check_items(batch[name], shape, name) for name, shape in shapes.items()}
    rows = {name: len(x) for name, x in checked.items()}
    if len(set(rows.values())) > 1:
        raise ValueError(f"batch has rows {rows}; expected the same number in every modality")
    return checked


class JointEncoder(Encoder):
    """Features of every modality, concatenated, one hidden ReLU layer, two linear heads.

    The trunks are those of the unimodal encoders (without their heads), with weights of their own. ``data`` is a data
    set or a mapping modality name -> shape of one item, of any number of modalities. The layer that joins the features
    has 512 units, as in Suzuki et al. 2016. ``encoders``, by name, are taken apart for their trunks; without one a
    modality has that of its shape.
    """

    def __init__(
        self,
        data,
        latent_dim: int = 20,
        width: float = 1.0,
        encoders: Mapping[str, Encoder] | None = None,
    ):
        super().__init__(latent_dim)
        shapes, symbols = described(data)
        if not shapes:
            raise ValueError("data is empty; expected at least one modality")
        self.shapes = {module_name(name): shape for name, shape in shapes.items()}
        self.trunks = nn.ModuleDict()
        for name, shape in self.shapes.items():
            made = networks_for(shape, symbols.get(name))[0]
            encoder = (encoders or {}).get(name) or made(shape, latent_dim=latent_dim, width=width)
            del encoder.loc, encoder.raw_scale  # only the trunk is used
            self.trunks[name] = encoder
        joined = sum(trunk.feature_dim for trunk in self.trunks.values())
        self.hidden = nn.Linear(joined, scaled(512, width))
        self.loc = nn.Linear(self.hidden.out_features, self.latent_dim)
        self.raw_scale = nn.Linear(self.hidden.out_features, self.latent_dim)

    def features(self, batch: Batch) -> Tensor:
        """What the joined features make, [B, units]."""
        checked = check_complete(batch, self.shapes)
        features = [self.trunks[name].features(x).flatten(1) for name, x in checked.items()]
        return torch.relu(self.hidden(torch.cat(features, dim=1)))


class ImageJointEncoder(Encoder):
    """Two images side by side through one stack of convolutions (Shi et al. 2021, Table 4a).

    Both are brought to the side and the channels of the larger one (bilinear; a grey image repeats its channel: the
    paper says 3x32x32 and leaves the way open) and concatenated along the width, the first of ``data`` at the left.
    At ``width=1`` with (1, 28, 28) and (3, 32, 32) the layers are those of the table: stride-2 convolutions from
    3x32x64 to 128x4x8, a 1x4 convolution to 128x4x4, 4x4 heads.
    """

    def __init__(self, data, latent_dim: int = 20, width: float = 1.0):
        super().__init__(latent_dim)
        self.shapes, _ = described(data)
        if len(self.shapes) != 2 or any(len(shape) != 3 for shape in self.shapes.values()):
            raise ValueError(f"data has {self.shapes}; expected exactly two images (channels, side, side)")
        self.channels = max(shape[0] for shape in self.shapes.values())
        self.side = max(max(shape[1:]) for shape in self.shapes.values())
        narrow = [name for name, shape in self.shapes.items() if shape[0] not in (1, self.channels)]
        if narrow:
            found = f"shape of {narrow[0]!r} is {self.shapes[narrow[0]]}"
            raise ValueError(f"{found}; expected 1 or {self.channels} channels")
        image = self.channels, self.side, self.side
        plan, last = channel_plan(image, width), map_sizes(image)[-1]
        self.convolutions = nn.Sequential(
            downsampler(self.channels, plan),  # [B, 128, 4, 8]
            nn.Conv2d(plan[-1], plan[-1], (1, 4), stride=(1, 2), padding=(0, 1)),  # [B, 128, 4, 4]
            nn.ReLU(),
        )
        self.loc = ToCode(plan[-1], self.latent_dim, last)
        self.raw_scale = ToCode(plan[-1], self.latent_dim, last)

    def canvas(self, batch: Batch) -> Tensor:
        """The two images side by side: [B, channels, side, 2 side]."""
        images = []
        for x in check_complete(batch, self.shapes).values():
            if x.shape[-2:] != (self.side, self.side):
                x = F.interpolate(x, size=(self.side, self.side), mode="bilinear", align_corners=False)
            images.append(x.expand(-1, self.channels, -1, -1))
        return torch.cat(images, dim=-1)

    def features(self, batch: Batch) -> Tensor:
        """A map [B, channels, 4, 4], or so, of both images."""
        return self.convolutions(self.canvas(batch))
