"""Temperature scaling finds the factor by which logits are overconfident."""

from __future__ import annotations

import numpy as np
import pytest

from usecases.calibration import best_temperature


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("several", [False, True])
def test_overconfidence_is_measured(factor: float, several: bool) -> None:
    """Labels are drawn from the predicted probabilities; the logits are then multiplied."""
    random = np.random.default_rng(0)
    logits = 2 * random.standard_normal((20_000, 3))
    if several:
        right = random.random(logits.shape) < 1 / (1 + np.exp(-logits))
    else:
        right = (logits + random.gumbel(size=logits.shape)).argmax(1)[:, None] == np.arange(3)
    assert best_temperature(factor * logits, right, several) == pytest.approx(factor, rel=0.06)
