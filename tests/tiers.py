"""Which tests run when: fast by `make test`, `slow` by `make test-slow`, `matrix` by `make test-matrix`."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest

SHARE = 0.1  # of each matrix that the slow tier runs, too
SEED = "verticals"  # of the choice; another chooses other cases
SLOW_SECONDS = 1800.0  # after which a slow test is taken for hung


def matrix(cases: Iterable[Any] | Mapping[str, Any], keep: int = 1) -> list[Any]:
    """The cases of a parametrised test: the first `keep` stay in the fast tier, the others are marked `matrix`.

    Args:
        cases: values, or ids with their values; a list or `pytest.param` holds the values of several arguments.
        keep: how many represent the others.
    """
    named = isinstance(cases, Mapping)
    params = []
    for place, case in enumerate(cases.items() if named else cases):
        name, value = case if named else (None, case)
        marks = () if place < keep else (pytest.mark.matrix,)
        params.append(pytest.param(*(value if isinstance(value, list) else [value]), id=name, marks=marks))
    return params


def assign(items: Sequence[pytest.Item]) -> None:
    """Mark a share of each matrix `slow`, chosen by the seed and the names of its cases, and give slow tests more time."""
    matrices: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("matrix"):
            matrices[item.nodeid.partition("[")[0]].append(item)
    for cases in matrices.values():
        for item in sorted(cases, key=_drawn)[: math.ceil(SHARE * len(cases))]:
            item.add_marker(pytest.mark.slow)
    for item in items:
        if not item.get_closest_marker("timeout") and (item.get_closest_marker("slow") or item.get_closest_marker("matrix")):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))


def _drawn(item: pytest.Item) -> bytes:
    return hashlib.blake2b(f"{SEED} {item.nodeid}".encode()).digest()
