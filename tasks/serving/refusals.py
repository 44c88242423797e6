"""Errors with which the server refuses a request, each with its HTTP status."""

from __future__ import annotations

from tasks.contract.errors import UserError


class Refusal(UserError):
    """A request is refused; the message is sent to the client."""

    status = 400
    retry_after: float | None = None
    """Seconds after which the client may try again; None: it should not."""


class Unknown(Refusal):
    """There is no such model or version."""

    status = 404


class TooLarge(Refusal):
    """The request has too many bytes or rows."""

    status = 413


class Forbidden(Refusal):
    """The API key gives no access to this model."""

    status = 403


class Unauthorized(Forbidden):
    """There is no API key, or it is unknown."""

    status = 401


class TooManyRequests(Refusal):
    """The queue is full, or a client exceeds its rate limit."""

    status = 429

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ClientDisconnected(Refusal):
    """The client disconnected before it was answered."""

    status = 499


class NotReady(Refusal):
    """The model exists but is not loaded."""

    status = 503


class DeadlineExceeded(Refusal):
    """The deadline passed before the answer was ready."""

    status = 504
