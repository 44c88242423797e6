"""The server's engine within another process: batches, cache and deadlines, without a socket."""

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
    """An open bundle that many coroutines may ask at once: what waits for a session is run together."""

    models: Models
    version: Version

    async def answer(self, request: Any, explain: bool = False, seconds: float = 0.0) -> dict[str, Any]:
        """The answer in the vertical's words, within `seconds` or the settings' deadline.

        Raises:
            BundleError: the request cannot be understood, or there is no explanation.
            Refusal: overloaded or late.
        """
        return await self.models.answer(self.version, request, explain, seconds or self.models.settings.deadline_seconds)

    async def predict(self, inputs: Arrays, seconds: float = 0.0) -> Arrays:
        """Named arrays with a batch axis to named arrays with the same batch axis. Nobody may change them: they may be remembered.

        Raises:
            BundleError: an input is missing, unknown, or of a wrong type or shape.
            Refusal: overloaded, late, or too many rows.
        """
        return await self.models.infer(self.version, inputs, seconds or self.models.settings.deadline_seconds)


@asynccontextmanager
async def open_bundle_async(folder: Path | str, settings: Serving = Serving()) -> AsyncIterator[AsyncBundle]:
    """A bundle for the running event loop; what it was asked is answered before it closes.

    Raises:
        BundleError: it cannot be opened, or does not answer its own example; what, and where.
    """
    folder = Path(folder).resolve()
    if not stored_graph(folder).is_file():
        raise BundleError(f"There is no bundle at {folder}: it should be a folder with model.onnx and usecase.json.")
    models = Models(folder, settings)
    try:
        await models.load(folder.name)
        yield AsyncBundle(models, models.get(folder.name))
    finally:
        await models.close()
