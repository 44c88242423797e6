"""The part of each picture that training sees. All draws come from torch's global generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

TURN, STRETCH = 0.2, 0.2  # of cut-outs: most radians, and most change of the sides' ratio


@dataclass(frozen=True)
class Window:
    """The part of each picture that is seen, of [-1, 1] each way: half its sides `scale` [N, 2] and its middle `shift` [N, 2], x and y; `flip` [N] is -1 where mirrored, `turn` [N] radians."""

    scale: Tensor
    shift: Tensor
    flip: Tensor
    turn: Tensor

    def grid(self, out: Sequence[int]) -> Tensor:
        theta = torch.zeros(len(self.scale), 2, 3, device=self.scale.device)
        (across, down), (cos, sin) = self.scale.unbind(1), (self.turn.cos(), self.turn.sin())
        theta[:, 0, 0], theta[:, 0, 1] = across * cos * self.flip, -across * sin
        theta[:, 1, 0], theta[:, 1, 1], theta[:, :, 2] = down * sin * self.flip, down * cos, self.shift
        return F.affine_grid(theta, [len(theta), 1, *out], align_corners=False)


def draw_window(size: Sequence[int], out: Sequence[int], zoom: float, mirror: bool, steady: Tensor) -> Window:
    """Args:
    size: height and width of the pictures.
    out: height and width of the parts, before they are enlarged.
    zoom: most that a part is enlarged or shrunk by.
    mirror: whether half are mirrored.
    steady: which are seen whole, bool [N].
    """
    count, device, whole = len(steady), steady.device, steady[:, None]
    factor = torch.exp((2 * torch.rand(count, device=device) - 1) * torch.log(torch.tensor(1.0 + zoom)))
    scale = torch.stack([out[1] / size[1] / factor, out[0] / size[0] / factor], 1)
    shift = (2 * torch.rand(count, 2, device=device) - 1) * (1 - scale).abs()
    flip = torch.where(torch.rand(count, device=device) < 0.5, -1.0, 1.0) if mirror else torch.ones(count, device=device)
    return Window(torch.where(whole, 1.0, scale), torch.where(whole, 0.0, shift), flip, torch.zeros(count, device=device))


def turned(window: Window, chosen: Tensor) -> Window:
    """Where chosen, bool [N], turned and stretched at random, and not mirrored."""
    turn, stretch = 2 * torch.rand(2, len(chosen), device=chosen.device) - 1
    across = torch.exp(stretch * torch.log(torch.tensor(1 + STRETCH)) / 2)
    return Window(
        torch.where(chosen[:, None], window.scale * torch.stack([across, 1 / across], 1), window.scale),
        window.shift,
        torch.where(chosen, 1.0, window.flip),
        torch.where(chosen, turn * TURN, window.turn),
    )


def cut(image: Tensor, window: Window, out: Sequence[int]) -> Tensor:
    """float [N, 3, H, W] to [N, 3, *out]; beyond the picture it is mirrored."""
    return F.grid_sample(image, window.grid(out), "bilinear", "reflection", align_corners=False)


@dataclass(frozen=True)
class View:
    """What training sees of the pictures of a batch: windows into pictures of `size`, enlarged or shrunk to `out` (height, width each).

    `steady`, bool [N], are those that are seen whole, though they may be mirrored.
    """

    window: Window
    size: tuple[int, int]
    out: tuple[int, int]
    steady: Tensor
