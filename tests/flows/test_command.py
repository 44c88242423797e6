"""The command `verticals`: help, names of models and runs, and how it ends when something goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil
import pytest

from flows.command import COMMANDS
from flows.command.help import help_text
from flows.command.running import ServerError, check_server
from flows.command.settings import flow_of, names
from tasks import store
from tasks.contract.artifacts import Release
from tasks.contract.errors import BundleError, SettingError
from tasks.contract.plugins import entry_points
from tasks.serving.released import find_bundle
from tasks.store.runs import Run, all_runs, find_run, write_run
from tests.reporting.conftest import evaluated

ROOT = Path(__file__).parents[2]
OURS = sorted(name.replace("_", "-") for name, point in entry_points().items() if point.value.startswith("usecases."))


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows", *arguments], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=300
    )


def test_every_command_is_listed_with_what_it_does() -> None:
    shown = command("--help")
    assert shown.returncode == 0 and all(f"  {name:<10}{each.summary}" in shown.stdout for name, each in COMMANDS.items())


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"run"}))
def test_every_command_has_help(name: str) -> None:
    shown = command(name, "--help")
    assert shown.returncode == 0 and shown.stdout.startswith("usage: verticals ") and name in shown.stdout.splitlines()[0]


@pytest.mark.parametrize("vertical", OURS)
def test_the_first_screen_of_help_fits_and_needs_no_prefect(vertical: str) -> None:
    code = f"""
import sys
from flows.command.run import run
try:
    run([{vertical!r}, "--help"])
finally:
    print(*(name for name in ("prefect", "torch", "transformers") if name in sys.modules), file=sys.stderr)
"""
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stderr.split() == [] and len(shown.stdout.splitlines()) <= 40
    assert all(word in shown.stdout for word in ("DATA", "--preset", "--epochs", "--minutes", "--json", "--usecase. ", "--fit. "))


@pytest.mark.parametrize("vertical", OURS)
def test_help_describes_every_setting(vertical: str) -> None:
    flow = flow_of(vertical)
    shown = " ".join(help_text(flow, "", "all").split())
    leaves = [name for section, settings in flow.sections.items() for name in names(settings, f"{section}.")]
    inner = {name.rpartition(".")[0] for name in leaves}
    assert len(leaves) > 50 and all(f"--{name} " in shown for name in leaves if name not in inner)
    described = [field.description for settings in flow.sections.values() for field in settings.model_fields.values() if field.description]
    assert all(" ".join(text.split()[:3]) in shown for text in described if not text.startswith("settings of the"))
    with pytest.raises(SettingError, match="no section 'fits'"):
        help_text(flow, "", "fits")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("prdict",), "There is no command 'prdict'. Did you mean predict?"),
        (("run", "nlq"), "There is no vertical 'nlq'. Did you mean nlp?"),
        (("run", "nlp", "sample", "extra"), "There is no place for 'extra'"),
        (("run", "nlp", "no/such/folder"), "no/such/folder does not exist. DATA is a folder"),
        (("run", "nlp", "--learning-rate", "1"), "Did you mean --pretraining.learning_rate or --fit.learning_rate"),
        (("predict", "nothing-like-it", "x"), "There is no model 'nothing-like-it'"),
        (("compare", "last", "last"), "of the 0 runs"),
        (("lineage", "last"), "There is no model 'last'"),
        (("schedule", "nlp", "sample", "--cron", "0 3 * * *"), "Start it first: verticals up"),
        (("schedule", "nlp", "sample", "--cron", "0 3 * * *", "--name", "A b"), "--name 'A b': small letters"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_answered_with_a_sentence(arguments: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    done = command(*arguments, VERTICALS_HOME=str(tmp_path))
    assert done.returncode == 2 and expected in done.stderr and "Traceback" not in done.stderr


def test_a_server_that_does_not_answer_is_named() -> None:
    done = command("run", "nlp", "sample", "--preset", "smoke", PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode == 2 and "No Prefect server answers at PREFECT_API_URL=http://127.0.0.1:9/api" in done.stderr
    assert "Traceback" not in done.stderr and "unset PREFECT_API_URL" in done.stderr
    with pytest.raises(ServerError, match="No Prefect server answers"):
        check_server("no address")


def test_what_is_no_prefect_server_is_reported() -> None:
    code = "import http.server; s = http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler); print(s.server_port, flush=True); s.serve_forever()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as other:
        assert other.stdout is not None
        address = f"http://127.0.0.1:{other.stdout.readline().strip()}"
        assert httpx.get(f"{address}/health").status_code == 404
        with pytest.raises(ServerError, match="is no Prefect server"):
            check_server(address)
        other.kill()


def test_runs_are_kept_listed_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERTICALS_HOME", str(tmp_path))
    for number, epochs in ((1, 5), (2, 9)):
        chosen = evaluated("int8", 0.9 + number / 100, 0.5, 1.0)
        release = Release(chosen=chosen, reason="it is", rejected=(), report="reports/x.html", answer={}, seconds=3.0)
        run = Run(
            id=f"image_classification-{number}", started=datetime.now(UTC), settings={"fit": {"epochs": epochs, "seed": 0}}, release=release
        )
        os.utime(write_run(run), (number, number))
    (tmp_path / "runs" / "broken.json").write_text("{")
    assert [run.id for run in all_runs()] == ["image_classification-2", "image_classification-1"]
    assert find_run("last").id == find_run("image_classification-2").id == "image_classification-2"
    assert find_run("last-1").id == "image_classification-1"
    for name in ("image", "last-2", "nothing"):
        with pytest.raises(BundleError, match="one was expected"):
            find_run(name)
    shown = command("compare", "last-1", "last", VERTICALS_HOME=str(tmp_path)).stdout
    assert "fit.epochs" in shown and "fit.seed" not in shown and "0.9100" in shown and "0.9200" in shown
    listed = [
        json.loads(line) for line in command("runs", "image-classification", "--json", VERTICALS_HOME=str(tmp_path)).stdout.splitlines()
    ]
    assert [line["id"] for line in listed] == ["image_classification-2", "image_classification-1"]
    assert command("runs", "nlp", "--json", VERTICALS_HOME=str(tmp_path)).stdout == ""


def test_a_model_is_found_by_its_names(made: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.serving.publishing import publish

    bundle = made[0]
    monkeypatch.setenv("VERTICALS_HOME", str(tmp_path))
    version = publish(bundle, tmp_path / "models")
    (tmp_path / "models" / "toy" / "10").mkdir()
    assert find_bundle(str(bundle)) == bundle
    assert find_bundle("toy/1") == version
    assert find_bundle("toy") == tmp_path / "models" / "toy" / "10", "the newest by number, not by name"
    with pytest.raises(BundleError, match=r"Released in .*: toy"):
        find_bundle("toys")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("seconds", [1.0, 6.0, 40.0])
def test_a_run_that_is_stopped_leaves_nothing_behind(number: signal.Signals, status: int, seconds: float, tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "flows", "run", "nlp", "sample", "--fit.epochs", "500", "--pretraining.epochs", "500"]
    environment = os.environ | {"VERTICALS_HOME": str(tmp_path / "store"), "PREFECT_HOME": str(tmp_path / "prefect")}
    process = subprocess.Popen(
        arguments, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    time.sleep(seconds)
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, number)  # as a terminal does
    _, errors = process.communicate(timeout=120)
    assert process.returncode == status and "Traceback" not in errors and errors.splitlines()[-1].startswith("Stopped.")
    assert len(errors) < 2000, "no library speaks"
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive


def test_the_api_imports_nothing_heavy() -> None:
    code = "import sys; from flows import run, serve, predict, score; print(*(m for m in ('torch', 'prefect', 'onnxruntime', 'transformers') if m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split() == []


def test_the_home_is_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VERTICALS_HOME")
    monkeypatch.chdir(tmp_path)
    assert store.home() == tmp_path / ".verticals"
