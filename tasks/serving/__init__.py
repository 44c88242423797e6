"""The model server, and its engine for use within another process: `open_bundle`, `open_bundle_async`."""

from tasks.serving.bundle import Bundle, open_bundle
from tasks.serving.embedded import AsyncBundle, open_bundle_async

__all__ = ["AsyncBundle", "Bundle", "open_bundle", "open_bundle_async"]
