"""Authentication by API keys, and a rate limit per client."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.contract.errors import SettingError
from tasks.serving.refusals import Forbidden, TooManyRequests, Unauthorized

MAX_CLIENTS = 10_000  # whose request rates are tracked
ALL = "*"
ANY = "?"  # in place of a model: any model that the key gives access to


@dataclass(frozen=True)
class Client:
    """The owner of a key, and the models that the key gives access to."""

    name: str
    models: frozenset[str]

    def may(self, model: str) -> bool:
        return ALL in self.models or model in self.models


def new_key(name: str, models: str = ALL) -> tuple[str, str]:
    """A new key for a client, and the line for the file of keys, which holds only the digest of the key."""
    key = secrets.token_urlsafe(32)
    return key, f"{name} {hash_key(key)} {models}"


def hash_key(key: str) -> str:
    """The digest of a key. One round is enough, since a key is 256 random bits that cannot be guessed."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_keys(path: Path) -> dict[str, Client]:
    """Clients by the digests of their keys, from a file of lines `NAME DIGEST [MODEL,MODEL]`.

    Raises:
        SettingError: the file cannot be read, or a line has another form.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SettingError(f"The file of keys {path} cannot be read: {error.strerror}.") from None
    clients = {}
    for number, line in enumerate(lines, 1):
        parts = line.split("#")[0].split()
        if not parts:
            continue
        if len(parts) not in (2, 3) or len(parts[1]) != 64:
            raise SettingError(
                f"{path} line {number} does not have the form NAME DIGEST [MODEL,MODEL]; `python -m tasks.serving key` prints such a line."
            )
        clients[parts[1]] = Client(parts[0], frozenset((parts[2] if len(parts) == 3 else ALL).split(",")))
    return clients


def api_key(headers: Mapping[str, str]) -> str:
    """The key in the headers of a request, `Authorization: Bearer KEY` or `X-Api-Key: KEY`; empty: none. Header names are in lower case."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return (given if scheme.lower() == "bearer" else headers.get("x-api-key", "")).strip()


class Guard:
    """Admits requests with a valid key, if keys are used, and limits the rate of requests of each client."""

    def __init__(self, keys: dict[str, Client] | None, per_second: float) -> None:
        self.keys, self.per_second = keys, per_second
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and the time at which they were counted

    def admit(self, key: str, address: str, model: str = "") -> Client:
        """The client that sent a request.

        Args:
            key: that it sent; empty: none.
            address: of the client, which identifies it where no keys are used.
            model: that it wants to use; `ANY`: any model; empty: the whole server.

        Returns:
            The client, whose request counts towards its rate limit.

        Raises:
            Unauthorized: there is no key, or the key is unknown.
            Forbidden: the key gives no access to this model.
            TooManyRequests: the client exceeds the rate limit.
        """
        client = Client(address, frozenset((ALL,))) if self.keys is None else self.keys.get(hash_key(key))
        if client is None:
            raise Unauthorized("A valid API key is required: send it as `Authorization: Bearer KEY`.")
        if model != ANY and not client.may(model or ALL):
            what = f"gives no access to the model {model!r:.80}" if model else "gives access to some models only, not to the whole server"
            raise Forbidden(f"The key of {client.name} {what}.")
        if self.per_second:
            self._take_token(client.name)
        return client

    def _take_token(self, name: str) -> None:
        """Token bucket that holds the requests of one second, but at least one."""
        now, capacity = time.monotonic(), max(1.0, self.per_second)
        left, since = self._buckets.pop(name, (capacity, now))
        left = min(capacity, left + (now - since) * self.per_second)
        self._buckets[name] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        if left < 1:
            raise TooManyRequests(f"More than {self.per_second:g} requests per second: try again later.", (1 - left) / self.per_second)
