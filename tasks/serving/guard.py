"""Who may ask, and how often."""

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

MOST_CLIENTS = 10_000  # whose pace is remembered
ALL = "*"
ANY = "?"  # in place of a model: whatever the key opens


@dataclass(frozen=True)
class Client:
    """Who holds a key, and the models that it opens."""

    name: str
    models: frozenset[str]

    def may(self, model: str) -> bool:
        return ALL in self.models or model in self.models


def new_key(name: str, models: str = ALL) -> tuple[str, str]:
    """A key for its holder, and the line for the file of keys, in which it cannot be read back."""
    key = secrets.token_urlsafe(32)
    return key, f"{name} {hashed(key)} {models}"


def hashed(key: str) -> str:
    """A key is 256 random bits, so that one round is enough: there is nothing to guess."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_keys(path: Path) -> dict[str, Client]:
    """Clients by the digest of their keys, of lines `NAME DIGEST [MODEL,MODEL]`.

    Raises:
        SettingError: no such file, or a line of another shape.
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
                f"{path} line {number} is not of the shape NAME DIGEST [MODEL,MODEL]; `python -m tasks.serving key` writes one."
            )
        clients[parts[1]] = Client(parts[0], frozenset((parts[2] if len(parts) == 3 else ALL).split(",")))
    return clients


def key_in(headers: Mapping[str, str]) -> str:
    """The key of a request: `Authorization: Bearer KEY` or `X-Api-Key: KEY`; empty: none. Names of headers in small letters."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return (given if scheme.lower() == "bearer" else headers.get("x-api-key", "")).strip()


class Guard:
    """Lets in who holds a key, where there are keys, and holds back who asks too often."""

    def __init__(self, keys: dict[str, Client] | None, per_second: float) -> None:
        self.keys, self.per_second = keys, per_second
        self._paces: OrderedDict[str, tuple[float, float]] = OrderedDict()  # requests in hand, and when that was

    def admit(self, given: str, address: str, model: str = "") -> Client:
        """Who asks for a model, for `ANY`, or without a name for what concerns them all.

        Raises:
            Unauthorized, Forbidden: no key, or one that does not open this model.
            TooManyRequests: too many requests.
        """
        client = Client(address, frozenset((ALL,))) if self.keys is None else self.keys.get(hashed(given))
        if client is None:
            raise Unauthorized("A key is needed: send it as `Authorization: Bearer KEY`.")
        if model != ANY and not client.may(model or ALL):
            what = f"does not open the model {model!r:.80}" if model else "opens some models only"
            raise Forbidden(f"The key of {client.name} {what}.")
        if self.per_second:
            self._pace(client.name)
        return client

    def _pace(self, name: str) -> None:
        """A bucket that holds the requests of a second, one at least."""
        now, most = time.monotonic(), max(1.0, self.per_second)
        left, since = self._paces.pop(name, (most, now))
        left = min(most, left + (now - since) * self.per_second)
        self._paces[name] = (left - 1 if left >= 1 else left, now)
        if len(self._paces) > MOST_CLIENTS:
            self._paces.popitem(last=False)
        if left < 1:
            raise TooManyRequests(f"More than {self.per_second:g} requests a second.", (1 - left) / self.per_second)
