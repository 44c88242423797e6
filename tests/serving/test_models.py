"""Versions are swapped while they serve: nothing fails, nothing wrong is told, and what is broken never serves."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from onnxruntime.quantization import quantize_dynamic

from tasks.contract.errors import BundleError, SettingError
from tasks.contract.types import Arrays
from tasks.serving.bundle import Bundle, open_bundle
from tasks.serving.models import Models
from tasks.serving.publishing import publish, remove_old
from tasks.serving.refusals import DeadlineExceeded, NotReady, Refusal, TooLarge, TooManyRequests, Unknown
from tasks.serving.settings import Serving
from tasks.store import content_digest
from tests.toy import ExplainingToy

POINT = {"point": np.array([[0.3, -0.2]], dtype=np.float32)}
ROOT = Path(__file__).parents[2]
PLAIN = Serving(cache_megabytes=0)
HUNG_SECONDS = 200.0  # after which what is waited for will not come


@pytest.fixture
def repository(made: list[Path], tmp_path: Path) -> Path:
    """Version 1 of the model toy."""
    publish(made[0], tmp_path / "repository", "toy")
    return tmp_path / "repository"


def expected(made: list[Path]) -> list[np.ndarray]:
    return [open_bundle(folder).predict(POINT)["probabilities"] for folder in made]


def serving(repository: Path, test: Callable[[Models], Awaitable[None]], settings: Serving = PLAIN) -> None:
    async def body() -> None:
        models = Models(repository, settings)
        assert await models.load_all() == {} and models.ready()
        await test(models)
        await models.close()

    asyncio.run(body())


async def told(models: Models, version: str = "") -> tuple[str, np.ndarray]:
    served = models.route("toy", version)
    return served.version, (await models.infer(served, POINT))["probabilities"]


def test_a_swap_under_load_fails_nothing_and_is_exact(made: list[Path], repository: Path) -> None:
    first, second = expected(made)
    assert not np.allclose(first, second)
    answers: list[tuple[str, np.ndarray]] = []

    async def test(models: Models) -> None:
        stop = asyncio.Event()

        async def client() -> None:
            while not stop.is_set():
                answers.append(await told(models))

        clients = [asyncio.ensure_future(client()) for _ in range(8)]
        for number in range(4):
            await asyncio.sleep(0.05)
            publish(made[(number + 1) % 2], repository, "toy")
            await models.load("toy")
            assert (await told(models))[0] == str(number + 2), "from the moment it is acknowledged"
        await models.rollback("toy")
        assert (await told(models))[0] == "4"
        stop.set()
        await asyncio.gather(*clients)
        assert set(models.models["toy"].versions) == {"4", "5"}, "the one before stays at hand, older ones are closed"

    serving(repository, test)
    assert len(answers) > 50 and {version for version, _ in answers} >= {"1", "2", "3", "4"}
    for version, answer in answers:
        assert np.allclose(answer, first if int(version) % 2 else second, atol=1e-6)


def test_a_restart_serves_what_was_served(made: list[Path], repository: Path) -> None:
    for place in (1, 0):
        publish(made[place], repository, "toy")

    async def change(models: Models) -> None:
        await models.load("toy", "2")
        await models.load("toy", "3")
        await models.rollback("toy")
        await models.split_traffic("toy", canary="1", share=0.25)

    async def look(models: Models) -> None:
        now = models.models["toy"]
        assert (now.active, now.previous, now.canary, now.share) == ("2", "3", "1", 0.25)
        await models.rollback("toy")
        await models.rollback("toy")

    async def look_again(models: Models) -> None:
        assert (models.models["toy"].active, models.models["toy"].previous) == ("4", "2"), "what was published meanwhile is served"

    serving(repository, change)
    serving(repository, look)
    publish(made[1], repository, "toy")
    serving(repository, look_again)


@pytest.mark.parametrize("damage", ["graph", "example", "settings"])
def test_a_broken_version_is_refused_and_the_old_one_goes_on(damage: str, made: list[Path], repository: Path) -> None:
    broken = publish(made[1], repository, "toy")
    if damage == "graph":
        (broken / "model.onnx").write_bytes((broken / "model.onnx").read_bytes()[:300])
    elif damage == "example":
        next((broken / "example").glob("request*")).write_text('["no", "point"]')
    else:
        (broken / "usecase.json").write_text('{"type": "os:system"}')

    async def test(models: Models) -> None:
        with pytest.raises(BundleError):
            await models.load("toy")
        assert (await told(models))[0] == "1"
        row = next(row for row in models.index() if row["version"] == "2")
        assert row["state"] == "UNAVAILABLE" and len(row["reason"]) > 20

    async def body() -> None:
        models = Models(repository, PLAIN)
        assert set(await models.load_all()) == {"toy 2"} and models.ready()
        await test(models)
        await models.unload("toy")
        with pytest.raises(NotReady, match="not loaded"):
            models.get("toy")
        await models.close()

    asyncio.run(body())


def test_a_canary_gets_its_share_and_a_shadow_copies_of_all(made: list[Path], repository: Path) -> None:
    publish(made[1], repository, "toy")

    async def test(models: Models) -> None:
        await models.load("toy", "1")
        await models.split_traffic("toy", canary="2", share=0.3)
        seen = [(await told(models))[0] for _ in range(400)]
        assert 0.2 < seen.count("2") / len(seen) < 0.4
        assert (await told(models, "1"))[0] == "1", "who names a version gets it"
        await models.split_traffic("toy", shadow="2")
        before = models.get("toy", "2").statistics.requests
        assert {(await told(models))[0] for _ in range(20)} == {"1"}
        async with asyncio.timeout(HUNG_SECONDS):
            while models.get("toy", "2").statistics.requests < before + 20:
                await asyncio.sleep(0.01)
        assert models.get("toy", "2").statistics.requests == before + 20
        with pytest.raises(Refusal, match="a number between 0 and 1 was expected"):
            await models.split_traffic("toy", canary="2", share=1.5)
        with pytest.raises(Unknown, match="no version '9'"):
            await models.split_traffic("toy", canary="9", share=0.1)

    serving(repository, test)


def test_the_repository_is_watched(made: list[Path], repository: Path) -> None:
    async def test(models: Models) -> None:
        watching = asyncio.ensure_future(models.watch())
        publish(made[1], repository, "toy")
        broken = publish(made[0], repository, "other")
        (broken / "model.onnx").write_bytes(b"no graph")
        async with asyncio.timeout(HUNG_SECONDS):
            while models.get("toy").version != "2":
                await asyncio.sleep(0.02)
            while "other" not in models.models or not models.models["other"].refused:
                await asyncio.sleep(0.02)
            assert models.ready() and "damaged" in models.index()[0]["reason"], (
                "the others answer, and the index says why this one does not"
            )
            shutil.copy(made[0] / "model.onnx", broken / "model.onnx")  # as if the copy had only now been complete
            while not models.models["other"].active:
                await asyncio.sleep(0.02)
            await models.unload("other")
            await asyncio.sleep(0.3)
            assert "other" not in models.models, "what was unloaded is not loaded again by looking"
        shutil.rmtree(repository / "toy")
        async with asyncio.timeout(HUNG_SECONDS):
            while "toy" in models.models:
                await asyncio.sleep(0.02)
        assert not watching.done()
        watching.cancel()

    serving(repository, test, Serving(watch_seconds=0.05))


def test_requests_that_do_not_fit_are_refused_and_counted(repository: Path) -> None:
    async def test(models: Models) -> None:
        served = models.get("toy")
        wrong = [
            ({}, BundleError, "'point' is missing"),
            ({"point": np.zeros((1, 3), np.float32)}, BundleError, "has the shape"),
            ({"point": np.zeros((1, 2), np.float64)}, BundleError, "expected float32"),
            ({**POINT, "more": np.zeros((1, 2), np.float32)}, Refusal, "There is no input 'more'"),
            ({"point": np.zeros((0, 2), np.float32)}, TooLarge, "has 0 rows"),
            ({"point": np.zeros((9, 2), np.float32)}, TooLarge, "has 9 rows; 1 to 8"),
        ]
        for inputs, kind, words in wrong:
            with pytest.raises(kind, match=words):
                await models.infer(served, inputs)
        assert served.statistics.failed == len(wrong) and served.statistics.requests == 0
        with pytest.raises(Unknown, match=r"There is no model '\.\./toy'"):
            models.get("../toy")
        with pytest.raises(Unknown, match="no loaded version '7'"):
            models.get("toy", "7")

    serving(repository, test, Serving(max_rows=8))


def test_an_explanation_is_run_a_few_rows_at_a_time_and_ends_with_its_deadline(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vertical whose explanation asks for a thousand rows, and one that never ends."""
    rows: list[int] = []

    settings = repository / "toy" / "1" / "usecase.json"
    settings.write_text(json.dumps(ExplainingToy().settings()))

    async def test(models: Models) -> None:
        served = models.get("toy")
        run = Bundle.predict

        def counted(self: Bundle, inputs: Arrays) -> Arrays:
            rows.append(len(inputs["point"]))
            return run(self, inputs)

        monkeypatch.setattr(Bundle, "predict", counted)
        answer = await models.answer(served, [0.1, 0.2], explain=True, seconds=HUNG_SECONDS)
        assert answer["explanation"] == {"rows": 1001} and max(rows) <= 8
        with pytest.raises(DeadlineExceeded, match="not ready in time"):
            await models.answer(served, [9, 9], explain=True, seconds=0.3)
        endless = [asyncio.ensure_future(models.answer(served, [9, 9], explain=True, seconds=HUNG_SECONDS)) for _ in range(8)]
        async with asyncio.timeout(HUNG_SECONDS):
            while models._explaining < len(endless):
                await asyncio.sleep(0.01)
        with pytest.raises(TooManyRequests, match="8 explanations are queued already"):
            await models.answer(served, [0.1, 0.2], explain=True, seconds=HUNG_SECONDS)
        assert (await models.answer(served, [0.1, 0.2], explain=False))["label"] in "ab", "answers alone are not kept waiting"
        for one in endless:
            one.cancel()
        await asyncio.gather(*endless, return_exceptions=True)
        assert (await models.answer(served, [0.1, 0.2], explain=True, seconds=HUNG_SECONDS))["explanation"] == {"rows": 1001}, (
            "who left is not explained to"
        )

    serving(repository, test)


def test_the_cache_knows_versions_apart(made: list[Path], repository: Path) -> None:
    first, second = expected(made)

    async def test(models: Models) -> None:
        assert models.cache is not None
        for _ in range(3):
            assert np.allclose((await told(models))[1], first)
        publish(made[1], repository, "toy")
        await models.load("toy")
        assert np.allclose((await told(models))[1], second)
        assert (models.cache.hits, models.cache.misses) == (2, 2)
        assert models.get("toy", "1").statistics.hits == 2

    serving(repository, test, Serving())


def test_a_bundle_by_itself_is_a_repository(made: list[Path]) -> None:
    async def test(models: Models) -> None:
        assert models.index() == [{"name": made[0].name, "version": "1", "state": "READY", "reason": ""}]

    serving(made[0], test)


def test_no_answer_depends_on_who_shares_a_batch(made: list[Path], repository: Path, tmp_path: Path) -> None:
    """A graph whose int8 scales come from all rows at once is asked one request at a time."""
    shutil.copytree(made[0], tmp_path / "dynamic")
    quantize_dynamic(made[0] / "model.onnx", tmp_path / "dynamic" / "model.onnx")
    publish(tmp_path / "dynamic", repository, "toy")
    alone = open_bundle(tmp_path / "dynamic")
    points = [np.array([[x, 100 * x]], np.float32) for x in np.linspace(-3, 3, 40)]

    async def test(models: Models) -> None:
        served = models.get("toy")
        found = await asyncio.gather(*(models.infer(served, {"point": point}) for point in points))
        expected = [alone.predict({"point": point})["probabilities"] for point in points]
        together = alone.predict({"point": np.concatenate(points)})["probabilities"]
        assert all(np.array_equal(one["probabilities"], other) for one, other in zip(found, expected, strict=True))
        assert not np.allclose(np.concatenate(expected), together), "together they would change one another"

    serving(repository, test)
    assert "dynamic_batching" not in (repository / "toy" / "config.pbtxt").read_text()


def test_old_versions_go_but_for_those_in_use(made: list[Path], tmp_path: Path) -> None:
    for place in range(5):
        publish(made[place % 2], tmp_path, "m")
    (tmp_path / "m" / ".serving.json").write_text('{"active": "1", "previous": "", "share": 0.0}')
    remove_old(tmp_path / "m", 2)
    assert sorted(path.name for path in (tmp_path / "m").iterdir() if path.is_dir()) == ["1", "4", "5"]


def test_publishing_counts_up_and_leaves_no_half_copy(made: list[Path], tmp_path: Path) -> None:
    assert [publish(made[place], tmp_path, "m").name for place in (0, 1, 1, 0)] == ["1", "2", "2", "3"], "what is the newest is not doubled"
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == [".lock", "1", "2", "3", "config.pbtxt"]
    config = (tmp_path / "m" / "config.pbtxt").read_text()
    assert 'platform: "onnxruntime_onnx"' in config and 'name: "point" data_type: TYPE_FP32 dims: [ 2 ]' in config
    with pytest.raises(SettingError, match="not a valid name of a model"):
        publish(made[0], tmp_path, "../m")


def test_two_that_publish_at_once_leave_whole_versions_and_no_double(made: list[Path], tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from tasks.serving.publishing import publish; print(publish(Path(sys.argv[1]), Path(sys.argv[2]), 'm'))"
    for number in range(3):
        repository = tmp_path / str(number)
        command = [sys.executable, "-c", script]
        racing = [subprocess.Popen([*command, str(bundle), str(repository)], cwd=ROOT) for bundle in (made[0], made[0], made[1])]
        assert [one.wait() for one in racing] == [0, 0, 0]
        versions = [path for path in (repository / "m").iterdir() if path.name.isdecimal()]
        assert all(open_bundle(path).answer([[0.1, 0.2]]) for path in versions)
        digests = [content_digest(path) for path in sorted(versions, key=lambda path: int(path.name))]
        assert all(one != following for one, following in pairwise(digests)), "nothing is published on top of itself"
        assert not list((repository / "m").glob(".draft-*"))
