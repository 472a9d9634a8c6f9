"""The digit classifier behind every coherence: a small batch-normalised convolutional network.

The papers' classifiers use dropout and are sometimes left in training mode while they judge; this one has no
dropout, and :mod:`mmlib.metrics.classifiers` hands it out in evaluation mode.
"""

import torch
from torch import Tensor, nn

from mmlib.checks import whole
from mmlib.modality import Shape
from mmlib.nets.common import check_items, check_shape, scaled


class DigitClassifier(nn.Module):
    """Pairs of 3x3 convolutions with batch norm and ReLU, halved by max-pooling until the side is at most 4.

    Args:
        shape: (channels, height, width) of one image, sides at least 4.
        classes: number of classes.
        width: factor on the channels (32, 64, 128, ... a level).
    """

    def __init__(self, shape: Shape, classes: int = 10, width: float = 1.0):
        super().__init__()
        self.shape = shape = check_shape(shape)
        if len(shape) != 3 or min(shape[1:]) < 4:
            raise ValueError(f"shape is {shape}; expected (channels, height, width), sides of at least 4")
        self.classes = whole("classes", classes)
        channels, height, breadth = shape
        layers: list[nn.Module] = []
        level = 0
        while max(height, breadth) > 4:
            wide = scaled(32 * 2**level, width)
            for before in (channels, wide):
                layers += [nn.Conv2d(before, wide, 3, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
            channels, height, breadth, level = wide, (height + 1) // 2, (breadth + 1) // 2, level + 1
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(channels * height * breadth, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class logits [B, classes] of images [B, *shape] in [0, 1].

        Raises:
            ValueError: if the images have another shape.
        """
        return self.head(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """What the last layer sees of images [B, *shape] in [0, 1]: [B, F].

        Raises:
            ValueError: as the logits.
        """
        return torch.flatten(self.body(check_items(x, self.shape)), 1)
