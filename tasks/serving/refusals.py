"""Why the server does not answer, in words, each with the status that the protocols give it."""

from __future__ import annotations

from tasks.contract.errors import UserError


class Refusal(UserError):
    """Its text is for whoever sent the request."""

    status = 400
    retry_after: float | None = None
    """Seconds after which it may be worth another try."""


class Unknown(Refusal):
    """No such model or version."""

    status = 404


class TooLarge(Refusal):
    status = 413


class Forbidden(Refusal):
    """No key, or one that does not open this."""

    status = 403


class Unauthorized(Forbidden):
    status = 401


class TooManyRequests(Refusal):
    """The queue is full, or a client asks too often."""

    status = 429

    def __init__(self, words: str, retry_after: float) -> None:
        super().__init__(words)
        self.retry_after = retry_after


class ClientDisconnected(Refusal):
    """The client did not wait for the answer."""

    status = 499


class NotReady(Refusal):
    """A model is there but does not answer now."""

    status = 503


class DeadlineExceeded(Refusal):
    """The deadline passed before the answer was there."""

    status = 504
