"""A small U-Net (Ronneberger et al., https://arxiv.org/abs/1505.04597): every pixel of an image gets a class."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def _block(inplanes: int, planes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inplanes, planes, 3, padding=1, bias=False),
        nn.GroupNorm(4, planes),
        nn.SiLU(inplace=True),
        nn.Conv2d(planes, planes, 3, padding=1),
        nn.SiLU(inplace=True),
    )


class UNet(nn.Module):
    """Images (N, 3, H, W), float32, to logits (N, num_classes, H, W); H and W are multiples of 2 ** (len(widths) - 1).

    Args:
        num_classes: how many classes a pixel may have.
        widths: channels at each resolution, from the finest to the coarsest; multiples of 4.
    """

    def __init__(self, num_classes: int = 4, widths: tuple[int, ...] = (16, 32, 64, 96)) -> None:
        super().__init__()
        fine, coarse = widths[:-1], widths[1:]
        self.stem = _block(3, widths[0])
        self.down = nn.ModuleList(_block(f, c) for f, c in zip(fine, coarse, strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(c, f, 2, stride=2) for f, c in zip(fine, coarse, strict=True))
        self.merge = nn.ModuleList(_block(2 * f, f) for f in fine)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        skips = [self.stem(image)]
        for block in self.down:
            skips.append(block(self.pool(skips[-1])))
        x = skips.pop()
        for up, merge in zip(reversed(self.up), reversed(self.merge), strict=True):
            x = merge(torch.cat([up(x), skips.pop()], dim=1))
        return self.head(x)
