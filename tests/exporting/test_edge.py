"""A bundle for small devices has the answers of the original; a bundle that cannot be converted is refused with a reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tasks.contract.errors import BundleError
from tasks.exporting import edge
from tasks.serving.__main__ import main as serving
from tasks.serving.bundle import open_bundle


@pytest.fixture(scope="module")
def out(made: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("edge") / "new" / "device"
    edge.write_edge(made[0], folder)
    return folder


def test_the_folder_has_what_a_device_needs_and_no_paths_of_this_machine(out: Path) -> None:
    assert sorted(path.name for path in out.iterdir()) == [
        *("README.md", "assets", "example", "model.ort", "required_operators.config", "usecase.json")
    ]
    listed = (out / "required_operators.config").read_text()
    assert "Gemm" in listed or "MatMul" in listed
    assert str(out.parent) not in listed
    assert "enable_cpu_mem_arena = False" in (out / "README.md").read_text()
    assert list(out.parent.iterdir()) == [out], "no draft is left"


def test_it_is_opened_without_an_arena_and_answers_like_its_bundle(
    made: list[Path], out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = open_bundle(out, optimised=tmp_path / "graphs")
    assert not bundle.session.get_session_options().enable_cpu_mem_arena
    assert not (tmp_path / "graphs").exists(), "it is optimised already"
    assert serving(["predict", str(out), str(out / "example" / "request.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((made[0] / "example" / "answer.json").read_text())


def test_the_command_prints_the_costs_of_both_bundles(made: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert edge.main([str(made[0]), str(tmp_path / "device"), "--platform", "arm"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["size", "MB", "load", "ms", "p50", "ms", "memory", "MB"]
    assert [row.split()[0] for row in rows] == ["bundle", "edge"]
    assert all(float(number) > 0 for row in rows for number in row.split()[1:])


def test_a_bundle_that_cannot_be_converted_is_refused_with_a_reason(
    made: list[Path], out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refusals = {
        "There is no bundle at": (tmp_path / "nothing", tmp_path / "device"),
        "exists already. Remove it": (made[0], tmp_path),
        "has been converted for small devices already": (out, tmp_path / "device"),
    }
    for words, (bundle, folder) in refusals.items():
        assert edge.main([str(bundle), str(folder)]) == 2
        assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [], "nothing is left"


def test_a_graph_with_other_outputs_is_refused(made: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(made[1], other)
    with pytest.raises(BundleError, match=r"differs by .* in 'probabilities'"):
        edge.check_same(open_bundle(made[0]), open_bundle(other))
