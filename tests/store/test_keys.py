"""Keys contain what a step really loads: for every step and vertical, the code that ran is compared with the code found by analysis."""

from __future__ import annotations

import functools
import importlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tasks import store
from tasks.baselines import baselines
from tasks.contract.artifacts import Dataset
from tasks.contract.plugins import entry_points
from tasks.contract.usecase import UseCase
from tasks.evaluate import evaluate
from tasks.explain import explain
from tasks.export import export
from tasks.prepare import prepare
from tasks.quantize import quantize
from tasks.settings import Budget, Fit
from tasks.store import libraries, source
from tasks.store.closure import OURS
from tasks.store.keys import code_of, key, versions
from tasks.train import fine_tune
from usecases.image_classification import ImageClassification
from usecases.recommendation import Recommendation

ROOT = Path(__file__).parents[2]
ASIDE = ("tasks.store", "tasks.reporting", "tests.store", "tests.conftest")
"""Modules that manage and show steps; no result depends on them."""
LOADED = """
import json, sys
from pathlib import Path
from tasks.training import rank
from tasks.training.job import Job
rank.fit(Job.model_validate_json(Path(sys.argv[1]).read_text()), 0)
print(json.dumps(sorted(name for name in sys.modules if name.split(".")[0] in ("tasks", "usecases", "tests"))))
"""


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERTICALS_HOME", str(tmp_path / "home"))


@contextmanager
def ran() -> Iterator[set[str]]:
    """The modules of the project whose functions are called within the block, by any thread."""
    found: set[str] = set()
    names: dict[str, str] = {}

    def note(frame: FrameType, event: str, argument: Any) -> None:
        name = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] in OURS and frame.f_code.co_name != "<module>":
            found.add(names.setdefault(name, name))

    sys.setprofile(note)
    threading.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def unnoticed(modules: set[str], build: Callable[..., Any], inputs: Any, settings: Any) -> set[str]:
    known = set(code_of(build, inputs, settings).modules)
    return {name for name in modules - known if not name.startswith(ASIDE)}


@pytest.fixture
def missed(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """For each step the modules that ran and are not part of its key."""
    found: dict[str, set[str]] = {}
    for name in ("make", "remember"):
        real = getattr(store, name)

        def traced(record: Any, settings: Any, build: Any, inputs: Any = (), real: Any = real, **options: Any) -> Any:
            @functools.wraps(build)
            def watched(*arguments: Any) -> Any:
                with ran() as modules:
                    outcome = build(*arguments)
                found.setdefault(options["step"], set()).update(unnoticed(modules, build, inputs, settings) - {__name__})
                return outcome

            return real(record, settings, watched, inputs, **options)

        monkeypatch.setattr(store, name, traced)
    return found


def run_steps(usecase: UseCase) -> None:
    """Run every step of a flow except training, whose process has a test of its own."""
    dataset = prepare.fn(usecase)
    for baseline in baselines.fn(dataset).values():
        export.fn(baseline, dataset, "baseline", "baseline")
    checkpoint = fine_tune.fn(None, dataset, Fit(epochs=1, batch_size=64, accelerator="cpu"))
    full = export.fn(checkpoint, dataset)
    explain.fn(checkpoint, dataset)
    evaluate.fn([full, *quantize.fn(full, dataset, Budget())], dataset)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name == "toy" else [pytest.mark.slow]) for name in sorted(entry_points())])
def test_every_module_that_runs_is_part_of_the_key(name: str, missed: dict[str, set[str]]) -> None:
    run_steps(entry_points()[name].load().small())
    assert {"prepare", "fine_tune", "export", "quantize", "evaluate", "explain"} <= missed.keys()
    assert {step: modules for step, modules in missed.items() if modules} == {}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name == "toy" else [pytest.mark.slow]) for name in sorted(entry_points())])
def test_every_module_that_a_training_process_loads_is_part_of_its_key(name: str, tmp_path: Path) -> None:
    from tasks.training.job import Job, write_atomically
    from tasks.training.launch import fit

    usecase = entry_points()[name].load().small()
    dataset = prepare.fn(usecase)
    job = Job(
        usecase=dataset.usecase,
        data=str(dataset.folder),
        fit=Fit(epochs=1, batch_size=64),
        work=str(tmp_path / "work"),
        ranks=1,
        accelerator="cpu",
        nonce="x",
    )
    job.scratch.mkdir(parents=True)
    write_atomically(job.spec, job.model_dump(mode="json"))
    done = subprocess.run([sys.executable, "-c", LOADED, str(job.spec)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert unnoticed(loaded, fit, (dataset,), {"usecase": dataset.usecase, "fit": job.fit}) == set()


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project's source, which keys are computed from."""
    for package in ("tasks", "usecases"):
        shutil.copytree(ROOT / package, tmp_path / "tree" / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(source, "locations", lambda package: (tmp_path / "tree" / package,))
    return tmp_path / "tree"


def edited(path: Path) -> None:
    path.write_text(f"{path.read_text(encoding='utf-8')}\n# edited\n", encoding="utf-8")


def test_a_step_is_stale_if_and_only_if_a_module_that_it_loads_has_changed(tree: Path) -> None:
    """Tested for the preparation of images, module by module."""
    usecase = ImageClassification()

    def step(folder: Path) -> dict[str, Any]:
        return usecase.prepare(folder)

    settings = {"usecase": type(usecase)}
    modules = set(code_of(step, (), settings).modules) - {__name__}
    before = key(step, (), settings)
    for path in sorted(tree.rglob("*.py")):
        name = ".".join(path.relative_to(tree).with_suffix("").parts).removesuffix(".__init__")
        text = path.read_text(encoding="utf-8")
        edited(path)
        assert (key(step, (), settings) != before) == (name in modules), name
        path.write_text(text, encoding="utf-8")


def test_each_step_depends_on_its_own_part_of_a_vertical() -> None:
    dataset = Dataset(digest="0" * 64, usecase=Recommendation(), sizes={})
    baseline = Recommendation().baselines()["markov"]

    def preparing(folder: Path) -> Any:
        return Recommendation().prepare(folder)

    def computing(folder: Path) -> Any:
        from tasks.training.computed import compute

        return compute(baseline, dataset, folder)

    def scoring() -> Any:
        from tasks.evaluation.measure import evaluate as measure

        return measure([], dataset)

    prepared = code_of(preparing, (), {"usecase": Recommendation}).modules
    computed = code_of(computing, (dataset,), {"usecase": baseline}).modules
    scored = code_of(scoring, (dataset,), {}).modules
    assert "usecases.recommendation.layouts" in prepared and "usecases.recommendation.network" not in prepared
    assert "usecases.recommendation.baselines" in computed, "where the class is, and what it imports when it is called"
    assert "usecases.recommendation.scores" in scored and "usecases.recommendation.objective" not in scored
    for modules in (prepared, computed, scored):
        assert not any(name.startswith(("usecases.nlp", "usecases.driving_perception", "tasks.reporting", "flows")) for name in modules)


def test_versions_of_libraries_are_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(folder: Path) -> Any:
        import onnxruntime

        return onnxruntime

    from tasks.store import keys

    before = key(step)
    monkeypatch.setattr(keys, "installed_version", lambda distribution: "9.9" if distribution == "onnxruntime" else "1.0")
    assert key(step) != before


OUTSIDE = {
    "shopping/__init__.py": "",
    "shopping/case.py": """
import importlib, json
from pathlib import Path
import shopping.parts
from shopping import bases, parts
from shopping.bases import Generic, read
from shopping.starred import *
from scaling import scale
try:
    from shopping import optional
except ImportError:
    optional = None

class Mine(bases.Base): ...
class Other(Generic[int]): ...

def computed(kind):
    return importlib.import_module(f"shopping.kind_{kind}")

def by_name(name):
    return getattr(parts, "make_" + name)()

def step():
    return Mine().work(), Other().generic(), shopping.parts.dotted(), read("a"), star(), scale(1), optional

def alone():
    return scale(1), optional
""",
    "shopping/bases.py": """
import typing
T = typing.TypeVar("T")
READERS = {}
def register(function):
    READERS["a"] = function
    return function
def read(name):
    return READERS[name]()
@register
def registered():
    import shopping.by_decorator
class Base:
    def work(self):
        import shopping.by_attribute_base
class Generic(typing.Generic[T]):
    def generic(self):
        import shopping.by_subscripted_base
""",
    "shopping/starred.py": "def star():\n    import shopping.by_star\n",
    "shopping/parts.py": """
def dotted():
    import shopping.by_dots
def make_x():
    import shopping.by_getattr
""",
    **{f"shopping/by_{name}.py": "" for name in ("decorator", "attribute_base", "subscripted_base", "star", "dots", "getattr")},
    "shopping/kind_a.py": "",
    "shopping/labels.json": "[]",
    "scaling/__init__.py": "def scale(x):\n    return x\n",
    "prices.py": "from pathlib import Path\n\ndef step():\n    return Path(__file__).with_name('prices.csv').read_text()\n",
    "prices.csv": "1",
}


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Packages and a module of somebody else who installed none of them."""
    for name, text in OUTSIDE.items():
        (tmp_path / "outside" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "outside" / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "outside")
    caches = source.locations, libraries.is_source, libraries.distributions_of
    for cached in caches:
        cached.cache_clear()
    yield tmp_path / "outside"
    for name in [name for name in sys.modules if name.partition(".")[0] in ("shopping", "scaling", "prices")]:
        del sys.modules[name]
    for cached in caches:
        cached.cache_clear()


def test_code_of_another_package_is_followed_through_every_way_to_name_it(outside: Path) -> None:
    case = importlib.import_module("shopping.case")
    found = set(code_of(case.step, (), {}).modules)
    assert {f"shopping.by_{name}" for name in ("decorator", "attribute_base", "subscripted_base", "star", "dots")} <= found
    assert "scaling" in found and "shopping.kind_a" not in found and "shopping.by_getattr" not in found
    assert "shopping.kind_a" in code_of(case.computed, (), {}).modules
    assert "shopping.by_getattr" in code_of(case.by_name, (), {}).modules


@pytest.mark.parametrize("name", ["shopping/optional.py", "shopping/labels.json", "scaling/__init__.py", "shopping/case.py"])
def test_a_change_of_another_package_makes_its_steps_stale(outside: Path, name: str) -> None:
    case = importlib.import_module("shopping.case")
    before = key(case.alone)
    assert key(case.alone) == before
    (outside / name).write_text("# changed, or new")
    assert key(case.alone) != before


def test_a_module_without_a_package_is_part_of_the_key_with_the_file_that_it_names(outside: Path) -> None:
    step = importlib.import_module("prices").step
    before = key(step)
    (outside / "prices.csv").write_text("2")
    changed = key(step)
    edited(outside / "prices.py")
    assert len({before, changed, key(step)}) == 3


def test_the_code_of_a_step_in_a_script_is_part_of_its_key(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    text = "from tasks.store.keys import key\n\ndef step():\n    return 1\n\nprint(key(step))\n"
    keys = []
    for changed in (text, text.replace("return 1", "return 2")):
        script.write_text(changed)
        done = subprocess.run([sys.executable, str(script)], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        keys.append(done.stdout)
    assert keys[0] != keys[1]


def test_a_library_without_a_distribution_is_not_left_out() -> None:
    assert versions(["no_such_library"])["no_such_library"] == "not installed"
    assert versions(["PIL"]).keys() == {"pillow", "python"}


def test_measurements_are_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def step() -> None: ...

    from tasks.store import keys

    before = key(step), key(step, machine=True)
    monkeypatch.setattr(keys, "cpu", lambda: "another processor")
    assert key(step) == before[0] and key(step, machine=True) != before[1]
