"""The model server, and its engine for use within another process: `open_bundle`, `open_bundle_async`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.serving.bundle import Bundle, open_bundle
    from tasks.serving.embedded import AsyncBundle, open_bundle_async

__all__ = ["AsyncBundle", "Bundle", "open_bundle", "open_bundle_async"]


def __getattr__(name: str) -> Any:
    """Import each name on first use, so that opening a bundle does not import the server."""
    if name in ("AsyncBundle", "open_bundle_async"):
        from tasks.serving import embedded

        return getattr(embedded, name)
    if name in ("Bundle", "open_bundle"):
        from tasks.serving import bundle

        return getattr(bundle, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
