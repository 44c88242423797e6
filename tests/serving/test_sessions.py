"""Opening a graph: optimised once for a machine, and on a device that is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tasks.contract.errors import BundleError, SettingError
from tasks.serving.bundle import open_bundle
from tasks.serving.sessions import open_session

POINT = {"point": np.array([[0.3, -0.2]], dtype=np.float32)}


def test_an_optimised_graph_is_kept_used_and_made_anew_where_it_is_damaged(made: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = open_bundle(made[0], optimised=cache)
    (kept,) = cache.iterdir()
    written, told = kept.stat().st_mtime_ns, kept.stat().st_ino
    second = open_bundle(made[0], optimised=cache)
    assert np.array_equal(first.predict(POINT)["probabilities"], second.predict(POINT)["probabilities"])
    assert kept.stat().st_ino == told and kept.stat().st_mtime_ns > written, "it was opened, not made again"
    kept.write_bytes(b"damaged")
    third = open_bundle(made[0], optimised=cache)
    assert np.array_equal(first.predict(POINT)["probabilities"], third.predict(POINT)["probabilities"])
    assert kept.read_bytes() != b"damaged" and list(cache.iterdir()) == [kept]
    open_bundle(made[1], optimised=cache)
    assert len(list(cache.iterdir())) == 2, "another graph is another file"


def test_where_none_can_be_kept_the_graph_opens_all_the_same(made: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert open_bundle(made[0], optimised=tmp_path / "file").predict(POINT)["probabilities"].shape == (1, 2)


def test_what_cannot_be_opened_is_said(made: list[Path], tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"model\.onnx cannot be opened because it is damaged"):
        open_session(tmp_path / "model.onnx", optimised=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(SettingError, match="does not support CUDA"):
            open_session(made[0] / "model.onnx", device="cuda")
