"""From the network's outputs to a list of boxes (non-maximum suppression). Uses NumPy only, since it runs in the server."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LIKELY = 0.3  # confidence from which a box is reported
STRIDE = 4  # pixels between positions of the network's outputs
MAX_BOXES = 100  # boxes of a frame, as in COCO's protocol
SAME = 0.6  # intersection over union from which two boxes of a class are one object


@dataclass(frozen=True)
class Found:
    """Predicted boxes: labels int64 [K], scores float32 [K] in descending order, and sides in pixels of the network's image, float32 [K, 4]."""

    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray


def found_boxes(centres: np.ndarray, extents: np.ndarray, least: float = 0.0) -> Found:
    """The most confident boxes of one frame, after non-maximum suppression.

    Args:
        centres: probabilities that a position is the centre of a box of each class, [C, h, w].
        extents: left, top, right and bottom of the box of each position in pixels, [4, h, w].
        least: confidence below which a box is left out.

    Returns:
        At most 100 boxes.
    """
    peaks = np.where(centres >= np.maximum(_local_maxima(centres), max(least, 1e-6)), centres, 0)
    flat = peaks.ravel()
    order = np.argsort(-flat, kind="stable")[: 3 * MAX_BOXES]
    order = order[flat[order] > 0]
    labels, rows, columns = np.unravel_index(order, peaks.shape)
    boxes = extents[:, rows, columns].T
    height, width = (STRIDE * side for side in centres.shape[1:])
    boxes = np.clip(boxes, 0, [width, height, width, height]).astype(np.float32)
    kept = _nms(labels, boxes)[:MAX_BOXES]
    return Found(labels[kept].astype(np.int64), flat[order][kept].clip(1e-6, 1 - 1e-6), boxes[kept])


def _local_maxima(maps: np.ndarray) -> np.ndarray:
    """The maximum of the 3 x 3 neighbourhood of each position, [C, h, w]."""
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1)), constant_values=0)
    across = np.maximum(np.maximum(padded[:, :, :-2], padded[:, :, 1:-1]), padded[:, :, 2:])
    return np.maximum(np.maximum(across[:, :-2], across[:, 1:-1]), across[:, 2:])


def _nms(labels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Indices of boxes that do not overlap a more confident one of their class (greedy non-maximum suppression)."""
    too_close = (overlaps(boxes, boxes) > SAME) & (labels[:, None] == labels)
    kept: list[int] = []
    for row in range(len(boxes)):
        if not too_close[row, kept].any():
            kept.append(row)
    return np.array(kept, dtype=np.int64)


def overlaps(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes [K, 4] and [M, 4], as [K, M]."""
    low, high = np.maximum(some[:, None, :2], others[None, :, :2]), np.minimum(some[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(2)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(1) for boxes in (some, others)]
    return shared / np.maximum(areas[0][:, None] + areas[1] - shared, 1e-9)
