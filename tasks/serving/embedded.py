"""The engine of the server inside another process: batching, response cache and deadlines, without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.contract.errors import BundleError
from tasks.contract.types import Arrays
from tasks.serving.graph_files import stored_graph
from tasks.serving.models import Models, Version
from tasks.serving.settings import Serving


@dataclass(frozen=True)
class AsyncBundle:
    """An open bundle for many concurrent coroutines: queued requests are run in batches."""

    models: Models
    version: Version

    async def answer(self, request: Any, explain: bool = False, seconds: float = 0.0) -> dict[str, Any]:
        """The answer of the vertical to a request.

        Args:
            request: as the codec takes it.
            explain: whether to add `explanation`.
            seconds: time limit; 0: `deadline_seconds` of the settings.

        Returns:
            The answer as JSON values.

        Raises:
            BundleError: the request is invalid, or the use case has no explanations.
            Refusal: too many requests are queued, or the time limit is over.
        """
        return await self.models.answer(self.version, request, explain, seconds or self.models.settings.deadline_seconds)

    async def predict(self, inputs: Arrays, seconds: float = 0.0) -> Arrays:
        """Outputs by name for inputs by name; all have the same batch axis. They may be cached and must not be modified.

        Raises:
            BundleError: an input is missing, or has a wrong type or shape.
            Refusal: an input is unknown, there are too many rows, too many requests are queued, or the time limit is over.
        """
        return await self.models.infer(self.version, inputs, seconds or self.models.settings.deadline_seconds)


@asynccontextmanager
async def open_bundle_async(folder: Path | str, settings: Serving = Serving()) -> AsyncIterator[AsyncBundle]:
    """Open a bundle for the running event loop; accepted requests are answered before it closes.

    Raises:
        BundleError: the bundle cannot be opened, or fails on its own example.
    """
    folder = Path(folder).resolve()
    if not stored_graph(folder).is_file():
        raise BundleError(f"There is no bundle at {folder}: a folder with model.onnx and usecase.json was expected.")
    models = Models(folder, settings)
    try:
        await models.load(folder.name)
        yield AsyncBundle(models, models.get(folder.name))
    finally:
        await models.close()
