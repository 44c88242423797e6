"""Between what a person sends and what the network takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

from tasks.contract.blocks import AnswerBlock
from tasks.contract.types import Arrays

Takes = Literal["image", "text", "history", "json"]
"""What a person sends: the bytes of an image file, a text, a history of items, or any other value of JSON."""


class Codec(Protocol):
    """Between what a person sends and what the network takes. NumPy only: it runs in the server."""

    takes: ClassVar[Takes]

    @property
    def padding(self) -> Mapping[str, int]:
        """By input, what fills the second axis of shorter requests that are run with longer ones; their answers are the same. Empty: none is."""
        ...

    def read(self, argument: str) -> Any:
        """One request from a command line argument: a path, a text."""
        ...

    def encode(self, requests: Sequence[Any]) -> Arrays:
        """Requests to the network's inputs. Raises `BundleError` for one that cannot be understood."""
        ...

    def decode(self, outputs: Arrays, requests: Sequence[Any]) -> list[dict[str, Any]]:
        """The network's outputs to one answer for each of the requests they were made for, ready for JSON."""
        ...

    def blocks(self, request: Any, answer: Mapping[str, Any]) -> list[AnswerBlock]:
        """What a person sees of an answer to a request, including its `explanation` where it has one. Computed from these two alone."""
        ...
