"""Random crops, scales, flips and rotations of training images, with torch's global random generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_ROTATION, MAX_STRETCH = 0.2, 0.2  # of crops of signs and lights: largest rotation in radians, and largest change of the aspect ratio


@dataclass(frozen=True)
class Window:
    """The part of each image that training uses, in coordinates from -1 to 1.

    `scale` [N, 2] is half of its width and height, `shift` [N, 2] its centre (x, y), `flip` [N] is -1 where it is mirrored, else 1, and
    `rotation` [N] is in radians.
    """

    scale: Tensor
    shift: Tensor
    flip: Tensor
    rotation: Tensor

    def grid(self, out: Sequence[int]) -> Tensor:
        """The sampling grid for `torch.nn.functional.grid_sample`, [N, *out, 2]; `out` is height and width."""
        theta = torch.zeros(len(self.scale), 2, 3, device=self.scale.device)
        (across, down), (cos, sin) = self.scale.unbind(1), (self.rotation.cos(), self.rotation.sin())
        theta[:, 0, 0], theta[:, 0, 1] = across * cos * self.flip, -across * sin
        theta[:, 1, 0], theta[:, 1, 1], theta[:, :, 2] = down * sin * self.flip, down * cos, self.shift
        return F.affine_grid(theta, [len(theta), 1, *out], align_corners=False)


def draw_window(size: Sequence[int], out: Sequence[int], zoom: float, mirror: bool, steady: Tensor) -> Window:
    """Draw a random window for each image.

    Args:
        size: height and width of the images.
        out: height and width of the parts, before their scale changes.
        zoom: largest change of scale, as a share.
        mirror: whether half of the images are mirrored.
        steady: images that are used whole, bool [N].

    Returns:
        The windows.
    """
    count, device, whole = len(steady), steady.device, steady[:, None]
    factor = torch.exp((2 * torch.rand(count, device=device) - 1) * torch.log(torch.tensor(1.0 + zoom)))
    scale = torch.stack([out[1] / size[1] / factor, out[0] / size[0] / factor], 1)
    shift = (2 * torch.rand(count, 2, device=device) - 1) * (1 - scale).abs()
    flip = torch.where(torch.rand(count, device=device) < 0.5, -1.0, 1.0) if mirror else torch.ones(count, device=device)
    return Window(torch.where(whole, 1.0, scale), torch.where(whole, 0.0, shift), flip, torch.zeros(count, device=device))


def rotated(window: Window, chosen: Tensor) -> Window:
    """Rotate and stretch the windows that are `chosen`, bool [N], at random, and undo their mirroring."""
    rotation, stretch = 2 * torch.rand(2, len(chosen), device=chosen.device) - 1
    across = torch.exp(stretch * torch.log(torch.tensor(1 + MAX_STRETCH)) / 2)
    return Window(
        torch.where(chosen[:, None], window.scale * torch.stack([across, 1 / across], 1), window.scale),
        window.shift,
        torch.where(chosen, 1.0, window.flip),
        torch.where(chosen, rotation * MAX_ROTATION, window.rotation),
    )


def cut(image: Tensor, window: Window, out: Sequence[int]) -> Tensor:
    """Sample the windows of images; beyond an image its reflection continues.

    Args:
        image: float [N, 3, H, W].
        window: of each image.
        out: height and width of the result.

    Returns:
        float [N, 3, *out].
    """
    return F.grid_sample(image, window.grid(out), "bilinear", "reflection", align_corners=False)


@dataclass(frozen=True)
class View:
    """The windows of a batch: parts of images of `size` that are resampled to `out` (height and width each).

    `steady`, bool [N], are the images that are used whole; they may be mirrored.
    """

    window: Window
    size: tuple[int, int]
    out: tuple[int, int]
    steady: Tensor
