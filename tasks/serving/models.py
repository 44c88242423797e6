"""Models and their versions: opened, warmed up, swapped while they serve, and drained. All of it in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tasks.contract.codec import Codec
from tasks.contract.errors import BundleError
from tasks.contract.types import Arrays
from tasks.serving.batching import Batcher
from tasks.serving.bundle import Bundle, open_bundle
from tasks.serving.cache import ResponseCache, key_of
from tasks.serving.graph_files import stored_graph
from tasks.serving.logs import note
from tasks.serving.predictions import PredictionLog
from tasks.serving.refusals import DeadlineExceeded, NotReady, Refusal, TooLarge, TooManyRequests, Unknown
from tasks.serving.settings import Serving

T = TypeVar("T")
STATE = ".serving.json"  # in a model's folder: what was served, for the next start
CODEC_THREADS = 2
MOST_EXPLAINING = 8  # explanations that run or wait


@dataclass
class Statistics:
    """What a version has done, in the terms of the protocol's statistics; seconds are sums."""

    requests: int = 0
    failed: int = 0
    rows: int = 0
    batches: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0
    failed_seconds: float = 0.0
    queued: float = 0.0
    computed: float = 0.0
    hits: int = 0
    last: float = 0.0

    def ran(self, rows: int, requests: int, queued: Sequence[float], computed: float) -> None:
        self.batches[rows] += 1
        self.rows += rows
        self.queued += sum(queued)
        self.computed += computed


class Version:
    """One version of a model, open and warm."""

    def __init__(self, model: str, version: str, bundles: Sequence[Bundle], settings: Serving) -> None:
        self.model, self.version, self.bundle = model, version, bundles[0]
        self.statistics = Statistics()
        self.watch: Callable[[int, int, Sequence[float], float], None] = self.statistics.ran
        session, padding = self.bundle.session, self.bundle.codec.padding
        lengths = {value.shape[1] for value in session.get_inputs() if value.name in padding}
        padded = [value.name for value in session.get_outputs() if len(value.shape) > 1 and value.shape[1] in lengths]
        sessions = [bundle.predict for bundle in bundles]
        most_rows = settings.max_batch if self.bundle.rows_are_alone else 1
        self.batcher = Batcher(sessions, most_rows, settings.queue, self._ran, padding, padded)
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @asynccontextmanager
    async def in_use(self) -> AsyncIterator[None]:
        """It is not closed meanwhile."""
        self._users += 1
        self._unused.clear()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def close(self) -> None:
        """Once nobody uses it any more."""
        await self._unused.wait()
        await self.batcher.close()

    def _ran(self, rows: int, requests: int, queued: Sequence[float], computed: float) -> None:
        self.watch(rows, requests, queued, computed)


@dataclass
class Model:
    """The versions of a model that are open, and who gets the requests that name none: `canary` a share of them, `active` the rest.

    `shadow` gets a copy of each, and its answers go nowhere. `refused` says of versions why they are not served, and
    `tried` how new their files were then: a copy may not have been complete.
    """

    name: str
    versions: dict[str, Version] = field(default_factory=dict)
    active: str = ""
    previous: str = ""
    canary: str = ""
    share: float = 0.0
    shadow: str = ""
    refused: dict[str, str] = field(default_factory=dict)
    tried: dict[str, float] = field(default_factory=dict)
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def kept(self) -> set[str]:
        return {self.active, self.previous, self.canary, self.shadow} - {""}


class Models:
    """All models of a repository: a bundle, or a folder of `NAME/` bundles or of `NAME/VERSION/` bundles."""

    def __init__(self, repository: Path, settings: Serving) -> None:
        self.repository, self.settings = repository, settings
        self.models: dict[str, Model] = {}
        self.started = False
        self.cache = ResponseCache(round(settings.cache_megabytes * 1e6)) if settings.cache_megabytes else None
        self.on_opening: list[Callable[[Version], None]] = []
        self.predictions = (
            PredictionLog(Path(settings.predictions), settings.predictions_share, round(settings.predictions_megabytes * 1e6))
            if settings.predictions
            else None
        )
        self._codecs = ThreadPoolExecutor(CODEC_THREADS, thread_name_prefix="codec")
        self._explainer = ThreadPoolExecutor(1, thread_name_prefix="explainer")
        self._explaining = 0
        self._background: set[asyncio.Task[Any]] = set()
        self._unloaded: set[str] = set()  # by somebody who does not want the watch to load it again
        self._random = random.Random()

    # -- what is there ------------------------------------------------------------------------------------------------
    def found(self) -> dict[str, dict[str, Path]]:
        """Folders of bundles in the repository by model and version, the newest version last."""
        if stored_graph(self.repository).is_file():
            return {self.repository.name: {"1": self.repository}}
        found: dict[str, dict[str, Path]] = {}
        for folder in sorted(self.repository.iterdir()) if self.repository.is_dir() else []:
            if folder.name.startswith(".") or not folder.is_dir():
                continue
            versions = [path for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()]
            if stored_graph(folder).is_file():
                found[folder.name] = {"1": folder}
            elif versions:
                found[folder.name] = {path.name: path for path in sorted(versions, key=lambda path: int(path.name))}
        return found

    def index(self) -> list[dict[str, str]]:
        """Every version on disk or open: READY, or UNAVAILABLE and why."""
        names = self.found()
        rows = []
        for name in sorted({*names, *self.models}):
            model = self.models.get(name, Model(name))
            for version in sorted({*names.get(name, {}), *model.versions}, key=int):
                ready = version in model.versions
                reason = "" if ready else model.refused.get(version, "not loaded")
                rows.append({"name": name, "version": version, "state": "READY" if ready else "UNAVAILABLE", "reason": reason})
        return rows

    def ready(self) -> bool:
        """All has been loaded once, and every model has a version that answers."""
        return self.started and all(model.active for model in self.models.values() if model.versions)

    def get(self, name: str, version: str = "") -> Version:
        """Raises `Unknown`, or `NotReady`: it is there, but not loaded."""
        model = self.models.get(name)
        if model is None or not model.active:
            if name in self.found():
                raise NotReady(f"The model {name!r} is not loaded. POST v2/repository/models/{name}/load does that.")
            raise Unknown(f"There is no model {name!r:.80}; there is {', '.join(self.models) or 'none'}.")
        if not version:
            return model.versions[model.active]
        if version not in model.versions:
            raise Unknown(f"The model {name!r} has no version {version!r:.20} that is loaded; there is {', '.join(model.versions)}.")
        return model.versions[version]

    # -- answering ----------------------------------------------------------------------------------------------------
    def route(self, name: str, version: str = "") -> Version:
        """The version that a request goes to."""
        served, model = self.get(name, version), self.models[name]
        if not version and model.canary and self._random.random() < model.share:
            return model.versions[model.canary]
        return served

    async def infer(self, served: Version, inputs: Arrays, seconds: float = 0.0, protocol: str = "v2") -> Arrays:
        """Outputs of the graph, from the cache where they are known.

        Raises:
            BundleError: inputs of another kind than it takes.
            Refusal: overloaded, late, or too many rows.
        """
        started = time.monotonic()
        outputs = await self._infer(served, inputs, seconds)
        self._log(served, protocol, time.monotonic() - started, inputs, outputs)
        return outputs

    async def _infer(self, served: Version, inputs: Arrays, seconds: float) -> Arrays:
        async with served.in_use():
            started, statistics = time.monotonic(), served.statistics
            try:
                checked = served.bundle.checked(inputs)
                if len(checked) < len(inputs):
                    raise Refusal(f"There is no input {min(inputs.keys() - checked.keys())!r:.80}; the model takes {', '.join(checked)}.")
                rows = len(next(iter(checked.values()), ()))
                if not 0 < rows <= self.settings.max_rows:
                    raise TooLarge(f"The request has {rows:,} rows; 1 to {self.settings.max_rows:,} are taken.")
                outputs = await self._computed(served, checked, seconds)
            except BaseException:
                statistics.failed += 1
                statistics.failed_seconds += time.monotonic() - started
                raise
            statistics.requests += 1
            statistics.seconds += time.monotonic() - started
            statistics.last = time.time()
        self._to_shadow(served, inputs)
        return outputs

    def _log(
        self, served: Version, protocol: str, seconds: float, inputs: Arrays, outputs: Arrays, request: Any = None, answer: Any = None
    ) -> None:
        if self.predictions and self.predictions.wanted():
            which = {"model": served.model, "version": served.version, "protocol": protocol}
            self.predictions.take(which, seconds, inputs, outputs, request, answer)

    async def _computed(self, served: Version, inputs: Arrays, seconds: float) -> Arrays:
        if self.cache is None:
            return await served.batcher(inputs, seconds)
        known = True

        def compute() -> Awaitable[Arrays]:
            nonlocal known
            known = False
            return served.batcher(inputs, seconds)

        outputs = await self.cache(key_of(served.model, served.version, inputs), compute)
        served.statistics.hits += known
        return outputs

    async def answer(self, served: Version, request: Any, explain: bool, seconds: float = 0.0, blocks: bool = False) -> dict[str, Any]:
        """The answer in the vertical's words.

        Args:
            served: the version that answers.
            request: as the codec takes it.
            explain: adds `explanation`.
            seconds: that it may take; 0: as long as the settings allow.
            blocks: adds `blocks`, what a person sees of the answer. They are computed from the answer, which is the same without them.

        Raises:
            BundleError: the request cannot be understood, or there is no explanation.
        """
        bundle, codec, started = served.bundle, served.bundle.codec, time.monotonic()
        async with served.in_use():
            inputs = await self.in_thread(lambda: encoded(codec, request))
            outputs = await self._infer(served, inputs, seconds)
            (answer,) = await self.in_thread(lambda: codec.decode(outputs, [request]))
            self._log(served, "v1", time.monotonic() - started, inputs, outputs, request, answer)
            if explain:
                answer = {**answer, "explanation": await self._explained(served, request, seconds)}
            return {**answer, "blocks": await self.in_thread(lambda: bundle.blocks(request, answer))} if blocks else answer

    async def _explained(self, served: Version, request: Any, seconds: float) -> dict[str, Any]:
        """In a thread of its own, since it may take long; it ends with its deadline, or when nobody waits for it any more."""
        if self._explaining >= MOST_EXPLAINING:
            raise TooManyRequests(f"{self._explaining} explanations wait already: try again later.", 5)
        left = threading.Event()

        def go_on() -> None:
            if left.is_set():
                raise DeadlineExceeded("Nobody waits for the explanation any more.")

        self._explaining += 1
        try:
            async with asyncio.timeout(seconds or self.settings.deadline_seconds):
                return await asyncio.get_running_loop().run_in_executor(self._explainer, lambda: served.bundle.explain(request, go_on))
        except TimeoutError:
            raise DeadlineExceeded("The explanation was not there in time.") from None
        finally:
            left.set()
            self._explaining -= 1

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Raises `NotReady`: all was closed."""
        try:
            working = asyncio.get_running_loop().run_in_executor(self._codecs, work)
        except RuntimeError:  # its threads are gone
            raise NotReady("The models were closed.") from None
        return await working

    def _to_shadow(self, served: Version, inputs: Arrays) -> None:
        model = self.models.get(served.model)
        if model is None or not model.shadow or model.shadow == served.version or served.version != model.active:
            return
        shadow = model.versions[model.shadow]

        async def copy() -> None:
            async with shadow.in_use():
                try:
                    await shadow.batcher(inputs, self.settings.deadline_seconds)
                    shadow.statistics.requests += 1
                except (Refusal, BundleError, RuntimeError):
                    shadow.statistics.failed += 1

        self._behind(copy())

    # -- changing -----------------------------------------------------------------------------------------------------
    async def load_all(self) -> dict[str, str]:
        """Load every model as it was served before, or its newest version that can be; returns why others could not, by name and version."""
        failed = {}
        for name, folders in self.found().items():
            newest, kept = list(folders)[-1], remembered(self.repository / name)
            last = ("previous", "active") if kept.get("newest") == newest else ("active",)
            wishes = [*(kept.get(which) for which in last), *([newest] if len(last) == 1 else [])]
            for version in [version for version in wishes if version in folders]:  # one after the other: the one before stays at hand
                await self._try(name, version, failed)
            for version in reversed(folders):
                if not self.models[name].active and f"{name} {version}" not in failed:
                    await self._try(name, version, failed)
            with contextlib.suppress(BundleError, Refusal):
                if kept.get("canary") or kept.get("shadow"):
                    await self.split(name, kept.get("canary", ""), float(kept.get("share", 0)), kept.get("shadow", ""))
        self.started = True
        return failed

    async def _try(self, name: str, version: str, failed: dict[str, str]) -> None:
        try:
            await self.load(name, version)
        except BundleError as error:
            failed[f"{name} {version}"] = str(error)

    async def load(self, name: str, version: str = "") -> None:
        """Open a version, the newest where none is named, and let it answer from now on; the one before stays at hand.

        Raises:
            Unknown: no such model or version.
            BundleError: it cannot be opened or does not answer its own example; what answered before goes on.
        """
        if name not in await self.in_thread(self.found):
            raise Unknown(f"The repository has no model {name!r:.80}.")
        self._unloaded.discard(name)
        model = self.models.setdefault(name, Model(name))
        async with model.changing:
            version = await self._open(model, version)
            if version != model.active:
                model.previous, model.active = model.active, version
            if version == model.canary:
                model.canary, model.share = "", 0.0
            self._settle(model)
        note("serves", model=name, version=version, before=model.previous)

    async def unload(self, name: str) -> None:
        """Take a model away until it is loaded again; what it was asked already is answered."""
        self.get(name)
        self._unloaded.add(name)
        self._close(name)

    def _close(self, name: str) -> None:
        note("unloads", model=name)
        for version in self.models.pop(name).versions.values():
            self._behind(version.close())

    async def rollback(self, name: str) -> None:
        """At once back to the version before.

        Raises:
            Refusal: there is none.
        """
        self.get(name)
        model = self.models[name]
        async with model.changing:
            if not model.previous:
                raise Refusal(f"The model {name!r} has no version before {model.active} that is at hand.")
            model.active, model.previous = model.previous, model.active
            self._settle(model)
        note("rolls back", model=name, version=model.active, before=model.previous)

    async def split(self, name: str, canary: str = "", share: float = 0.0, shadow: str = "") -> None:
        """Give a share of the requests to another version, and copies of all to a shadow; without them take that back."""
        self.get(name)
        if not 0 <= share <= 1:
            raise Refusal(f"The share of the canary is {share:g}; it lies between 0 and 1.")
        model = self.models[name]
        async with model.changing:
            for version in filter(None, (canary, shadow)):
                await self._open(model, version)
            model.canary, model.share, model.shadow = canary, share if canary else 0.0, shadow
            self._settle(model)
        note("splits", model=name, version=model.active, canary=model.canary, share=model.share, shadow=model.shadow)

    async def watch(self) -> None:
        """Load what is new in the repository, unload what is gone; for ever."""
        while True:
            await asyncio.sleep(self.settings.watch_seconds)
            try:
                await self._look()
            except OSError:  # somebody removes a folder just now
                continue

    async def _look(self) -> None:
        found = await self.in_thread(self.found)
        for name in [name for name in self.models if name not in found]:
            self._close(name)
        for name, versions in found.items():
            newest, model = list(versions)[-1], self.models.get(name)
            known = model is not None and (newest in model.versions or model.tried.get(newest) == _stamp(versions[newest]))
            if not known and name not in self._unloaded:
                with contextlib.suppress(BundleError, Refusal):  # `refused` says why, and the one before goes on
                    await self.load(name, newest)

    async def close(self) -> None:
        """Answer what was asked, take nothing new."""
        for name in list(self.models):
            self._close(name)
        await asyncio.gather(*self._background)
        if self.predictions:
            await self.predictions.close()
        self._codecs.shutdown(wait=False)
        self._explainer.shutdown(wait=False)

    async def _open(self, model: Model, version: str) -> str:
        found = await self.in_thread(self.found)
        folders = found.get(model.name)
        if folders is None:
            raise Unknown(f"The repository has no model {model.name!r:.80}; it has {', '.join(found) or 'none'}.")
        version = version or list(folders)[-1]
        if version in model.versions:
            return version
        if version not in folders:
            raise Unknown(f"The repository has no version {version!r:.20} of {model.name!r}; it has {', '.join(folders)}.")
        try:
            bundles = await self.in_thread(lambda: opened(folders[version], self.settings))
        except BundleError as error:
            model.refused[version], model.tried[version] = str(error), _stamp(folders[version])
            note("version refused", logging.ERROR, model=model.name, version=version, reason=str(error))
            raise
        model.refused.pop(version, None)
        model.versions[version] = Version(model.name, version, bundles, self.settings)
        for tell in self.on_opening:
            tell(model.versions[version])
        return version

    def _settle(self, model: Model) -> None:
        """Close the versions that nobody is sent to, and remember the rest for a restart, where the repository can be written to."""
        for version in [version for version in model.versions if version not in model.kept()]:
            self._behind(model.versions.pop(version).close())
        kept = {name: getattr(model, name) for name in ("active", "previous", "canary", "share", "shadow")}
        folder = self.repository / model.name
        if folder.is_dir() and not stored_graph(folder).is_file():
            with contextlib.suppress(OSError):
                draft = folder / f"{STATE}.draft"
                newest = next(reversed(self.found().get(model.name, {})), "")
                draft.write_text(json.dumps({**kept, "newest": newest}), encoding="utf-8")
                draft.replace(folder / STATE)

    def _behind(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def encoded(codec: Codec, request: Any) -> Arrays:
    try:
        return codec.encode([request])
    except RecursionError:
        raise BundleError("The request is nested too deeply.") from None


def remembered(folder: Path) -> dict[str, Any]:
    """What was served of the model in `folder` by the last server that did; empty where none told."""
    try:
        kept = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _stamp(folder: Path) -> float:
    """When the newest file of a folder was written."""
    return max((path.stat().st_mtime for path in folder.rglob("*") if path.is_file()), default=0.0)


def opened(folder: Path, settings: Serving) -> list[Bundle]:
    """A bundle for each session, each of which has answered the bundle's own example.

    Raises:
        BundleError: it cannot be opened, or does not answer.
    """
    optimised = Path(settings.graph_cache) if settings.graph_cache else None
    bundles = [
        open_bundle(folder, settings.session_threads(), device=settings.device, optimised=optimised) for _ in range(settings.sessions)
    ]
    for bundle in bundles:
        try:
            bundle.answer([bundle.example_request()])
        except BundleError:
            raise
        except Exception as error:  # whatever a damaged graph or codec raises
            raise BundleError(f"The bundle {folder} does not answer its own example: {type(error).__name__}: {error}") from error
    return bundles
