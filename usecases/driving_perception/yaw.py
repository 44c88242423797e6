"""How far a camera turned from one moment to the next, by what is far away in its pictures."""

from __future__ import annotations

import numpy as np
from PIL import Image

WIDE, HIGH = 160, 60  # pixels of the upper half of a picture: what is far moves as the camera turns, not as it comes nearer
FARTHEST = 0.4  # share of the width: beyond it too little is in both pictures
ALIKE = 0.02  # relative difference of the sides' ratios of two pictures of one camera, of which one may have been reduced
WHITENED = 0.5  # of the spectrum: 0 asks for what is bright to agree, 1 for every frequency alike


def strip(image: Image.Image) -> np.ndarray:
    """float32 [HIGH, WIDE]: the upper half of a picture, grey, the mean of each row taken away, and fading out at the sides."""
    grey = np.asarray(image.convert("L").resize((WIDE, 2 * HIGH), Image.Resampling.BOX), dtype=np.float32)[:HIGH]
    return (grey - grey.mean(1, keepdims=True)) * np.hanning(WIDE).astype(np.float32)


def same_shape(one: Image.Image, other: Image.Image) -> bool:
    return abs(one.width * other.height / (one.height * other.width) - 1) <= ALIKE


def turn_between(before: np.ndarray, now: np.ndarray) -> float:
    """Share of the width that the view of two strips moved, above nought where the camera turned right.

    The peak of the partly whitened cross-correlation (Knapp 1976), between pixels by the parabola through its neighbours.
    """
    cross = np.fft.rfft(before, 2 * WIDE) * np.conj(np.fft.rfft(now, 2 * WIDE))
    alike = np.fft.irfft((cross / np.maximum(np.abs(cross), 1e-6) ** WHITENED).sum(0))
    most = round(FARTHEST * WIDE)
    near = np.concatenate([alike[-most - 1 :], alike[: most + 2]])  # moves of -most - 1 to most + 1
    peak = 1 + int(near[1:-1].argmax())
    left, top, right = near[peak - 1 : peak + 2]
    bend = left - 2 * top + right
    return float(peak - 1 - most + (0.5 * (left - right) / bend if bend < 0 else 0.0)) / WIDE
