"""Codec between histories of item ids and network inputs and outputs. NumPy only, since it runs in the server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tasks.contract.blocks import AnswerBlock, Bar, Bars, Note, Ranking, Row
from tasks.contract.codec import Takes
from tasks.contract.errors import BundleError
from tasks.contract.types import Arrays
from usecases.recommendation.sequences import read_catalogue

FIELDS = ("history", "k", "filter_seen", "allow", "deny", "category")
DEFAULT_K = 10  # number of recommendations if a request does not set k
MAX_LISTED = 30  # categories in an error


class HistoryCodec:
    """Requests are histories of item ids with filters; answers are items with scores and titles."""

    takes: ClassVar[Takes] = "history"
    padding: Mapping[str, int] = {}

    def __init__(self, assets: Path, length: int) -> None:
        card = read_catalogue(assets)
        self.items, self.titles, self.categories = card["items"], card["titles"], card["categories"]
        self.filter_seen, self.length = bool(card["filter_seen"]), length
        self.number = {item: i for i, item in enumerate(self.items, 1)}

    def read(self, argument: str) -> dict[str, Any]:
        """A request from a JSON file, JSON, or ids that are separated by commas.

        Raises:
            BundleError: the argument looks like JSON but is not valid JSON.
        """
        text = Path(argument).read_text(encoding="utf-8") if _is_file(argument) else argument
        if not text.lstrip().startswith(("{", "[")):
            return {"history": [part.strip() for part in text.split(",") if part.strip()]}
        try:
            request = json.loads(text)
        except ValueError as error:
            raise BundleError(f"The request {argument:.80} is not valid JSON: {error}.") from None
        return request if isinstance(request, dict) else {"history": request}

    def encode(self, requests: Sequence[Any]) -> Arrays:
        """history int64 [B, length] and allowed bool [B, items]. Unknown items are ignored.

        Raises:
            BundleError: a request is malformed, or its filters leave no item to recommend.
        """
        checked = [_checked(index, request) for index, request in enumerate(requests, 1)]
        history = np.zeros((len(checked), self.length), dtype=np.int64)
        for row, request in enumerate(checked):
            latest = [self.number[i] for i in request["history"] if i in self.number][-self.length :]
            history[row, self.length - len(latest) :] = latest
        return {"history": history, "allowed": np.stack([self._allowed(i, r) for i, r in enumerate(checked, 1)])}

    def decode(self, outputs: Arrays, requests: Sequence[Any]) -> list[dict[str, Any]]:
        """From items and scores [B, K] to `{"items": [{"item", "score", "title", "categories"}, ...]}`, best first."""
        asked = [_checked(index, request).get("k", DEFAULT_K) for index, request in enumerate(requests, 1)]
        rows = zip(outputs["item"], outputs["score"], asked, strict=True)
        return [
            {"items": [{**self.named(int(i)), "score": round(float(s), 6)} for i, s in zip(item, score, strict=True) if np.isfinite(s)][:k]}
            for item, score, k in rows
        ]

    def blocks(self, request: Any, answer: Mapping[str, Any]) -> list[AnswerBlock]:
        """The recommended items, and the past events that the first of them depends on."""
        rows = [_row(one) for one in answer["items"]]
        shown: list[AnswerBlock] = [Ranking(kind="ranking", title="Recommended", items=rows)]
        if found := answer.get("explanation"):
            shown.append(_because(found))
        return shown

    def _allowed(self, index: int, request: Mapping[str, Any]) -> np.ndarray:
        allowed = np.zeros(len(self.items), dtype=bool) if "allow" in request else np.ones(len(self.items), dtype=bool)
        allowed[self._places(request.get("allow", ()))] = True
        if "category" in request:
            allowed &= self._of_category(index, request["category"])
        allowed[self._places(request.get("deny", ()))] = False
        if not allowed.any():
            raise BundleError(f"Request {index} leaves no item to recommend: its allow, deny and category exclude every item.")
        return self._without_seen(allowed, request["history"]) if request.get("filter_seen", self.filter_seen) else allowed

    def _without_seen(self, allowed: np.ndarray, history: Sequence[str]) -> np.ndarray:
        """The allowed items without those of the history; all allowed items if the history contains them all."""
        unseen = allowed.copy()
        unseen[self._places(history)] = False
        return unseen if unseen.any() else allowed

    def _of_category(self, index: int, category: str) -> np.ndarray:
        if category not in self._by_category:
            listed = ", ".join(sorted(self._by_category)[:MAX_LISTED]) or "none"
            raise BundleError(f"Request {index}: no item has the category {category!r}. Categories: {listed}.")
        inside = np.zeros(len(self.items), dtype=bool)
        inside[self._by_category[category]] = True
        return inside

    @cached_property
    def _by_category(self) -> dict[str, list[int]]:
        """The indices of the items of each category."""
        found: dict[str, list[int]] = {}
        for place, kinds in enumerate(self.categories):
            for kind in kinds:
                found.setdefault(kind, []).append(place)
        return found

    def _places(self, ids: Sequence[str]) -> list[int]:
        return [self.number[i] - 1 for i in ids if i in self.number]

    def named(self, item: int) -> dict[str, Any]:
        """The id of an item with its title and categories, by its number."""
        named = {"item": self.items[item - 1], "title": self.titles[item - 1], "categories": self.categories[item - 1]}
        return {name: value for name, value in named.items() if value or name == "item"}


def _row(item: Mapping[str, Any]) -> Row:
    row = Row(id=item["item"], label=_name(item), value=item["score"])
    return {**row, "detail": ", ".join(item["categories"])} if item.get("categories") else row


def _because(found: Mapping[str, Any]) -> AnswerBlock:
    if not found["because"]:
        return Note(kind="note", title=f"Why {_name(found)}", text="The history is empty, so the most popular items are recommended.")
    events = [Bar(label=_name(event), value=event["lost"]) for event in found["because"]]
    caption = "Decrease of its score without each event of the history, the latest event first."
    return Bars(kind="bars", title=f"Why {_name(found)}", caption=caption, items=events)


def _name(item: Mapping[str, Any]) -> str:
    return item.get("title") or item["item"]


def _checked(index: int, request: Any) -> dict[str, Any]:
    if isinstance(request, list):
        request = {"history": request}
    if not isinstance(request, dict):
        raise BundleError(f"Request {index} is neither a list of ids nor an object with a history: {request!r:.80}")
    unknown = set(request) - set(FIELDS)
    if unknown:
        raise BundleError(f"Request {index} has unknown fields: {', '.join(sorted(unknown))}. Known fields: {', '.join(FIELDS)}.")
    for name in ("history", "allow", "deny"):
        if not isinstance(request.get(name, []), list):
            raise BundleError(f"Request {index}: {name} should be a list of ids, not {request[name]!r:.80}")
    if not isinstance(request.get("category", ""), str):
        raise BundleError(f"Request {index}: category should be a string, not {request['category']!r:.80}")
    if not isinstance(request.get("filter_seen", True), bool):
        raise BundleError(f"Request {index}: filter_seen should be true or false, not {request['filter_seen']!r:.80}")
    k = request.get("k", DEFAULT_K)
    if not isinstance(k, int) or isinstance(k, bool) or k < 1:
        raise BundleError(f"Request {index}: k should be a whole number of at least 1, not {k!r}.")
    lists = {name: [str(i) for i in request[name]] for name in ("history", "allow", "deny") if name in request}
    return {**request, "history": [], **lists}


def _is_file(argument: str) -> bool:
    try:
        return Path(argument).is_file()
    except OSError:  # too long for the name of a file
        return False
