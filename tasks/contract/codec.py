"""Codecs: how requests become the inputs of a network, and its outputs become answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

from tasks.contract.blocks import AnswerBlock
from tasks.contract.types import Arrays

Takes = Literal["image", "text", "history", "json"]
"""The kind of a request: the bytes of an image file, a text, a history of items, or any other JSON value."""


class Codec(Protocol):
    """Converts requests to the inputs of a network, and its outputs to answers.

    A codec runs in the model server. It may import NumPy, but neither torch nor transformers.
    """

    takes: ClassVar[Takes]
    """The kind of request; the command line and the page ask people for it."""

    @property
    def padding(self) -> Mapping[str, int]:
        """The padding value of each input that may be padded along its second axis, by the name of the input.

        The server pads shorter requests to run them in one batch with longer ones. Padding must not change an answer. Empty: requests of
        different lengths are not batched.
        """
        ...

    def read(self, argument: str) -> Any:
        """One request from a command line argument, such as a path or a text.

        Raises:
            BundleError: the argument cannot be read.
        """
        ...

    def encode(self, requests: Sequence[Any]) -> Arrays:
        """The inputs of the network for a batch of B requests: arrays by the names of `UseCase.input_names`, each with B rows.

        Raises:
            BundleError: a request is malformed. The message says what was expected and what was found; the server answers it as a 4xx.
        """
        ...

    def decode(self, outputs: Arrays, requests: Sequence[Any]) -> list[dict[str, Any]]:
        """One answer for each request, ready for JSON.

        Args:
            outputs: arrays by the names of `UseCase.output_names`, each with a row for each request.
            requests: the requests that were encoded, in the same order.
        """
        ...

    def blocks(self, request: Any, answer: Mapping[str, Any]) -> list[AnswerBlock]:
        """The blocks in which an answer is shown on the command line and on the page, including its `explanation` if it has one.

        They are computed from the request and the answer alone, without the network.
        """
        ...
