"""Models and their versions: loading, warm-up, switching versions under load, and draining. Belongs to one event loop."""

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
from tasks.serving.cache import ResponseCache, cache_key
from tasks.serving.graph_files import stored_graph
from tasks.serving.logs import log_event
from tasks.serving.predictions import PredictionLog
from tasks.serving.refusals import DeadlineExceeded, NotReady, Refusal, TooLarge, TooManyRequests, Unknown
from tasks.serving.settings import Serving

T = TypeVar("T")
STATE = ".serving.json"  # in the folder of a model: the versions that were served, for the next start
CODEC_THREADS = 2
MAX_EXPLANATIONS = 8  # that run or are queued


@dataclass
class Statistics:
    """Statistics of a version as the protocol defines them; seconds are sums."""

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

    def add_batch(self, rows: int, requests: int, queued: Sequence[float], computed: float) -> None:
        self.batches[rows] += 1
        self.rows += rows
        self.queued += sum(queued)
        self.computed += computed


class Version:
    """A version of a model that is loaded and warmed up."""

    def __init__(self, model: str, version: str, bundles: Sequence[Bundle], settings: Serving) -> None:
        self.model, self.version, self.bundle = model, version, bundles[0]
        self.statistics = Statistics()
        self.on_batch: Callable[[int, int, Sequence[float], float], None] = self.statistics.add_batch
        session, padding = self.bundle.session, self.bundle.codec.padding
        lengths = {value.shape[1] for value in session.get_inputs() if value.name in padding}
        padded = [value.name for value in session.get_outputs() if len(value.shape) > 1 and value.shape[1] in lengths]
        sessions = [bundle.predict for bundle in bundles]
        max_batch_size = settings.max_batch if self.bundle.rows_are_independent else 1
        self.batcher = Batcher(sessions, max_batch_size, settings.queue, self._batch_done, padding, padded)
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @asynccontextmanager
    async def in_use(self) -> AsyncIterator[None]:
        """Within the context the version is not closed."""
        self._users += 1
        self._unused.clear()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def close(self) -> None:
        """Wait until the version is no longer in use, and close it."""
        await self._unused.wait()
        await self.batcher.close()

    def _batch_done(self, rows: int, requests: int, queued: Sequence[float], computed: float) -> None:
        self.on_batch(rows, requests, queued, computed)


@dataclass
class Model:
    """The loaded versions of a model. Of requests that name no version, `canary` gets the fraction `share`, and `active` gets the rest.

    `shadow` gets a copy of each request; its answers are discarded. `refused` has the reason why a version could not be loaded, and
    `tried` the modification time of its files then: it is tried again once they change, since a copy may have been incomplete.
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
        self.on_open: list[Callable[[Version], None]] = []
        self.predictions = (
            PredictionLog(Path(settings.predictions), settings.predictions_share, round(settings.predictions_megabytes * 1e6))
            if settings.predictions
            else None
        )
        self._codecs = ThreadPoolExecutor(CODEC_THREADS, thread_name_prefix="codec")
        self._explainer = ThreadPoolExecutor(1, thread_name_prefix="explainer")
        self._explaining = 0
        self._background: set[asyncio.Task[Any]] = set()
        self._unloaded: set[str] = set()  # on request: `watch` does not load them again
        self._random = random.Random()

    # -- the repository -----------------------------------------------------------------------------------------------
    def find_bundles(self) -> dict[str, dict[str, Path]]:
        """Folders of the bundles in the repository by model and version, the newest version last."""
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
        """Every version that is in the repository or loaded; its state is READY, or UNAVAILABLE with a reason."""
        names = self.find_bundles()
        rows = []
        for name in sorted({*names, *self.models}):
            model = self.models.get(name, Model(name))
            for version in sorted({*names.get(name, {}), *model.versions}, key=int):
                ready = version in model.versions
                reason = "" if ready else model.refused.get(version, "not loaded")
                rows.append({"name": name, "version": version, "state": "READY" if ready else "UNAVAILABLE", "reason": reason})
        return rows

    def ready(self) -> bool:
        """Whether the models have been loaded, and every model has an active version."""
        return self.started and all(model.active for model in self.models.values() if model.versions)

    def get(self, name: str, version: str = "") -> Version:
        """A loaded version.

        Args:
            name: of the model.
            version: empty: the active one.

        Raises:
            Unknown: there is no such model, or the version is not loaded.
            NotReady: the model is in the repository but not loaded.
        """
        model = self.models.get(name)
        if model is None or not model.active:
            if name in self.find_bundles():
                raise NotReady(f"The model {name!r} is not loaded. Load it with POST /v2/repository/models/{name}/load.")
            raise Unknown(f"There is no model {name!r:.80}. Loaded models: {', '.join(self.models) or 'none'}.")
        if not version:
            return model.versions[model.active]
        if version not in model.versions:
            raise Unknown(f"The model {name!r} has no loaded version {version!r:.20}. Loaded versions: {', '.join(model.versions)}.")
        return model.versions[version]

    # -- answering ----------------------------------------------------------------------------------------------------
    def route(self, name: str, version: str = "") -> Version:
        """The version that answers a request."""
        served, model = self.get(name, version), self.models[name]
        if not version and model.canary and self._random.random() < model.share:
            return model.versions[model.canary]
        return served

    async def infer(self, served: Version, inputs: Arrays, seconds: float = 0.0, protocol: str = "v2") -> Arrays:
        """Outputs of the graph, from the response cache if they are in it.

        Args:
            served: the version that computes.
            inputs: arrays by name, each with a batch axis.
            seconds: time limit; 0: none.
            protocol: v2 or grpc, for the log of predictions.

        Returns:
            Outputs by name. They may be cached and must not be modified.

        Raises:
            BundleError: an input is missing, or has a wrong type or shape.
            Refusal: an input is unknown, there are too many rows, too many requests are queued, or the time limit is over.
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
                    raise Refusal(
                        f"There is no input {min(inputs.keys() - checked.keys())!r:.80}. Inputs of the model: {', '.join(checked)}."
                    )
                rows = len(next(iter(checked.values()), ()))
                if not 0 < rows <= self.settings.max_rows:
                    raise TooLarge(f"The request has {rows:,} rows; 1 to {self.settings.max_rows:,} are accepted (--max_rows).")
                outputs = await self._computed(served, checked, seconds)
            except BaseException:
                statistics.failed += 1
                statistics.failed_seconds += time.monotonic() - started
                raise
            statistics.requests += 1
            statistics.seconds += time.monotonic() - started
            statistics.last = time.time()
        self._copy_to_shadow(served, inputs)
        return outputs

    def _log(
        self, served: Version, protocol: str, seconds: float, inputs: Arrays, outputs: Arrays, request: Any = None, answer: Any = None
    ) -> None:
        if self.predictions and self.predictions.is_sampled():
            labels = {"model": served.model, "version": served.version, "protocol": protocol}
            self.predictions.add(labels, seconds, inputs, outputs, request, answer)

    async def _computed(self, served: Version, inputs: Arrays, seconds: float) -> Arrays:
        if self.cache is None:
            return await served.batcher(inputs, seconds)
        cached = True

        def compute() -> Awaitable[Arrays]:
            nonlocal cached
            cached = False
            return served.batcher(inputs, seconds)

        outputs = await self.cache(cache_key(served.model, served.version, inputs), compute)
        served.statistics.hits += cached
        return outputs

    async def answer(self, served: Version, request: Any, explain: bool, seconds: float = 0.0, blocks: bool = False) -> dict[str, Any]:
        """The answer of the vertical to a request.

        Args:
            served: the version that answers.
            request: as the codec takes it.
            explain: whether to add `explanation`.
            seconds: time limit; 0: none for the prediction, and that of the settings for the explanation.
            blocks: whether to add `blocks`, from which the answer is drawn. The rest of the answer does not depend on them.

        Returns:
            The answer as JSON values.

        Raises:
            BundleError: the request is invalid, or the use case has no explanations.
            Refusal: too many requests are queued, or the time limit is over.
        """
        bundle, codec, started = served.bundle, served.bundle.codec, time.monotonic()
        async with served.in_use():
            inputs = await self.run_in_thread(lambda: encode_request(codec, request))
            outputs = await self._infer(served, inputs, seconds)
            (answer,) = await self.run_in_thread(lambda: codec.decode(outputs, [request]))
            self._log(served, "v1", time.monotonic() - started, inputs, outputs, request, answer)
            if explain:
                answer = {**answer, "explanation": await self._explained(served, request, seconds)}
            return {**answer, "blocks": await self.run_in_thread(lambda: bundle.blocks(request, answer))} if blocks else answer

    async def _explained(self, served: Version, request: Any, seconds: float) -> dict[str, Any]:
        """The explanation, computed in a separate thread since it may take long; it ends at its deadline, or when its client disconnects."""
        if self._explaining >= MAX_EXPLANATIONS:
            raise TooManyRequests(f"{self._explaining} explanations are queued already: try again later.", 5)
        cancelled = threading.Event()

        def check_cancelled() -> None:
            if cancelled.is_set():
                raise DeadlineExceeded("The explanation was cancelled: its client no longer waits for it.")

        self._explaining += 1
        try:
            async with asyncio.timeout(seconds or self.settings.deadline_seconds):
                return await asyncio.get_running_loop().run_in_executor(
                    self._explainer, lambda: served.bundle.explain(request, check_cancelled)
                )
        except TimeoutError:
            raise DeadlineExceeded("The explanation was not ready in time.") from None
        finally:
            cancelled.set()
            self._explaining -= 1

    async def run_in_thread(self, work: Callable[[], T]) -> T:
        """The result of `work`, run in a thread. Raises `NotReady` after `close`."""
        try:
            working = asyncio.get_running_loop().run_in_executor(self._codecs, work)
        except RuntimeError:  # the pool was shut down
            raise NotReady("The server is shutting down.") from None
        return await working

    def _copy_to_shadow(self, served: Version, inputs: Arrays) -> None:
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

        self._run_in_background(copy())

    # -- changing -----------------------------------------------------------------------------------------------------
    async def load_all(self) -> dict[str, str]:
        """Load the versions of each model that were served before, or its newest version that can be loaded.

        Returns:
            The errors of versions that could not be loaded, by "NAME VERSION".
        """
        failed = {}
        for name, folders in self.find_bundles().items():
            newest, kept = list(folders)[-1], read_state(self.repository / name)
            last = ("previous", "active") if kept.get("newest") == newest else ("active",)
            wanted = [*(kept.get(which) for which in last), *([newest] if len(last) == 1 else [])]
            for version in [
                version for version in wanted if version in folders
            ]:  # in this order, so that the earlier one becomes `previous`
                await self._try(name, version, failed)
            for version in reversed(folders):
                if not self.models[name].active and f"{name} {version}" not in failed:
                    await self._try(name, version, failed)
            with contextlib.suppress(BundleError, Refusal):
                if kept.get("canary") or kept.get("shadow"):
                    await self.split_traffic(name, kept.get("canary", ""), float(kept.get("share", 0)), kept.get("shadow", ""))
        self.started = True
        return failed

    async def _try(self, name: str, version: str, failed: dict[str, str]) -> None:
        try:
            await self.load(name, version)
        except BundleError as error:
            failed[f"{name} {version}"] = str(error)

    async def load(self, name: str, version: str = "") -> None:
        """Load a version and make it the active one; the one before stays loaded for a rollback.

        Args:
            name: of the model.
            version: empty: the newest one.

        Raises:
            Unknown: there is no such model or version.
            BundleError: the version cannot be opened or fails on its own example; the active version does not change.
        """
        if name not in await self.run_in_thread(self.find_bundles):
            raise Unknown(f"The repository has no model {name!r:.80}.")
        self._unloaded.discard(name)
        model = self.models.setdefault(name, Model(name))
        async with model.changing:
            version = await self._open(model, version)
            if version != model.active:
                model.previous, model.active = model.active, version
            if version == model.canary:
                model.canary, model.share = "", 0.0
            self._save_state(model)
        log_event("serves", model=name, version=version, before=model.previous)

    async def unload(self, name: str) -> None:
        """Unload a model until it is loaded again; accepted requests are still answered."""
        self.get(name)
        self._unloaded.add(name)
        self._close(name)

    def _close(self, name: str) -> None:
        log_event("unloads", model=name)
        for version in self.models.pop(name).versions.values():
            self._run_in_background(version.close())

    async def rollback(self, name: str) -> None:
        """Make the previous version active again, which is still loaded.

        Raises:
            Refusal: there is no previous version.
        """
        self.get(name)
        model = self.models[name]
        async with model.changing:
            if not model.previous:
                raise Refusal(f"The model {name!r} has no previous version to {model.active} that is loaded.")
            model.active, model.previous = model.previous, model.active
            self._save_state(model)
        log_event("rolls back", model=name, version=model.active, before=model.previous)

    async def split_traffic(self, name: str, canary: str = "", share: float = 0.0, shadow: str = "") -> None:
        """Send a share of the requests to a canary, and copies of all requests to a shadow.

        Args:
            name: of the model.
            canary: version; empty: none.
            share: fraction of the requests for the canary, in [0, 1].
            shadow: version; empty: none.

        Raises:
            Unknown: there is no such model or version.
            BundleError: a version cannot be opened or fails on its own example.
            Refusal: the share is out of range.
        """
        self.get(name)
        if not 0 <= share <= 1:
            raise Refusal(f"The share of the canary is {share:g}; a number between 0 and 1 was expected.")
        model = self.models[name]
        async with model.changing:
            for version in filter(None, (canary, shadow)):
                await self._open(model, version)
            model.canary, model.share, model.shadow = canary, share if canary else 0.0, shadow
            self._save_state(model)
        log_event("splits", model=name, version=model.active, canary=model.canary, share=model.share, shadow=model.shadow)

    async def watch(self) -> None:
        """Load new versions of the repository and unload removed models, in an endless loop."""
        while True:
            await asyncio.sleep(self.settings.watch_seconds)
            try:
                await self._load_changes()
            except OSError:  # a folder is being removed
                continue

    async def _load_changes(self) -> None:
        found = await self.run_in_thread(self.find_bundles)
        for name in [name for name in self.models if name not in found]:
            self._close(name)
        for name, versions in found.items():
            newest, model = list(versions)[-1], self.models.get(name)
            known = model is not None and (newest in model.versions or model.tried.get(newest) == _stamp(versions[newest]))
            if not known and name not in self._unloaded:
                with contextlib.suppress(BundleError, Refusal):  # `refused` has the reason; the active version does not change
                    await self.load(name, newest)

    async def close(self) -> None:
        """Answer the accepted requests, and refuse new ones."""
        for name in list(self.models):
            self._close(name)
        await asyncio.gather(*self._background)
        if self.predictions:
            await self.predictions.close()
        self._codecs.shutdown(wait=False)
        self._explainer.shutdown(wait=False)

    async def _open(self, model: Model, version: str) -> str:
        found = await self.run_in_thread(self.find_bundles)
        folders = found.get(model.name)
        if folders is None:
            raise Unknown(f"The repository has no model {model.name!r:.80}. Its models: {', '.join(found) or 'none'}.")
        version = version or list(folders)[-1]
        if version in model.versions:
            return version
        if version not in folders:
            raise Unknown(f"The repository has no version {version!r:.20} of {model.name!r}. Its versions: {', '.join(folders)}.")
        try:
            bundles = await self.run_in_thread(lambda: open_sessions(folders[version], self.settings))
        except BundleError as error:
            model.refused[version], model.tried[version] = str(error), _stamp(folders[version])
            log_event("version refused", logging.ERROR, model=model.name, version=version, reason=str(error))
            raise
        model.refused.pop(version, None)
        model.versions[version] = Version(model.name, version, bundles, self.settings)
        for callback in self.on_open:
            callback(model.versions[version])
        return version

    def _save_state(self, model: Model) -> None:
        """Close the versions that get no requests, and save the names of the rest for a restart if the repository is writable."""
        for version in [version for version in model.versions if version not in model.kept()]:
            self._run_in_background(model.versions.pop(version).close())
        kept = {name: getattr(model, name) for name in ("active", "previous", "canary", "share", "shadow")}
        folder = self.repository / model.name
        if folder.is_dir() and not stored_graph(folder).is_file():
            with contextlib.suppress(OSError):
                draft = folder / f"{STATE}.draft"
                newest = next(reversed(self.find_bundles().get(model.name, {})), "")
                draft.write_text(json.dumps({**kept, "newest": newest}), encoding="utf-8")
                draft.replace(folder / STATE)

    def _run_in_background(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def encode_request(codec: Codec, request: Any) -> Arrays:
    """The inputs of the graph for one request."""
    try:
        return codec.encode([request])
    except RecursionError:
        raise BundleError("The JSON of the request is nested too deeply.") from None


def read_state(folder: Path) -> dict[str, Any]:
    """The saved state of the model in `folder`, as the last server wrote it; empty if there is none."""
    try:
        kept = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _stamp(folder: Path) -> float:
    """Modification time of the newest file in a folder."""
    return max((path.stat().st_mtime for path in folder.rglob("*") if path.is_file()), default=0.0)


def open_sessions(folder: Path, settings: Serving) -> list[Bundle]:
    """Open a bundle once per session, and warm each up with the example of the bundle.

    Raises:
        BundleError: the bundle cannot be opened, or fails on its own example.
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
            raise BundleError(f"The bundle {folder} fails on its own example: {type(error).__name__}: {error}") from error
    return bundles
