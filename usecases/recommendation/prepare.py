"""Preparation of a log: rows are checked, events sorted, rare users and items removed, splits made, and sequences written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tasks.contract.errors import DataError
from tasks.contract.findings import NAMED, Findings
from tasks.contract.types import Say
from usecases.recommendation.layouts import find_log, readable
from usecases.recommendation.logs import Catalogue, Log
from usecases.recommendation.splits import Sequences, cut, k_core, without_repeats

if TYPE_CHECKING:
    from usecases.recommendation import Recommendation

REPEATING = 0.1  # share of events that repeat an item from which items of the history are recommended again
DAY = 86_400.0
MIN_SEQUENCES = 3
EXAMPLE_EVENTS = 20


def prepare(settings: Recommendation, folder: Path, say: Say) -> dict[str, Any]:
    """Read a log, and write `events/`, `assets/` and an example request.

    Args:
        settings: settings of the log and its splits.
        folder: folder of the prepared data set.
        say: reports progress.

    Returns:
        The card of the data set.

    Raises:
        DataError: there is no log, too many rows are unusable, or too few events are left.
    """
    findings = Findings()
    say("reading the log")
    log = find_log(settings, findings)
    with readable(f"The log ({log.layout}) cannot be read"):
        events, users, items = _coded(log, settings, findings)
    total = len(events) + findings.unusable
    findings.refuse_past(settings.tolerance, total, "rows")
    say(f"sorting {len(events):,} events")
    sequences = _ordered(events, settings, findings)
    del events
    sequences = without_repeats(sequences, settings.repeats, findings)
    sequences = k_core(sequences, settings.k_core, findings)
    if sequences.count < MIN_SEQUENCES:
        raise DataError(_too_few(sequences.count, settings))
    sequences, ids, owners = _renumbered(sequences, items, users)
    focus = _focus(sequences, ids, log.catalogue, settings)
    splits = cut(sequences, focus, settings, findings)
    for name, rows in splits.items():
        if not len(rows):
            raise DataError(
                f"No example is left for the {name} split of {len(sequences.items):,} events. {_too_few(sequences.count, settings)}"
            )
    say("writing")
    repeating = _repeats(sequences) / max(len(sequences.items), 1)
    _write_events(folder / "events", sequences, focus, owners, splits)
    _write_assets(folder / "assets", ids, log.catalogue, sequences, splits["train"], _filters(settings, repeating))
    _write_example(folder / "example.json", ids, sequences, splits["test"][0])
    return {
        "layout": log.layout,
        "sizes": {name: len(rows) for name, rows in splits.items()},
        "facts": {
            "users": len(set(owners)),
            "sequences": sequences.count,
            "items": len(ids),
            "events": len(sequences.items),
            "events per sequence, median": float(np.median(np.diff(sequences.offsets))),
            "density": f"{len(sequences.items) / (sequences.count * len(ids)):.3%}",
            "events that repeat an item": f"{repeating:.1%}",
            "titles": f"{sum(i in log.catalogue.titles for i in ids):,} of {len(ids):,} items",
            "split": SPLITS[settings.split],
        },
        "findings": findings.listed(),
    }


SPLITS = {
    "leave_one_out": "leave-one-out: the last item of each sequence is for the test, the one before it for validation",
    "time": "by time: the latest events are for the test, those before them for validation, the rest for training",
}


# -- rows ---------------------------------------------------------------------------------------------------------
def _coded(log: Log, settings: Recommendation, findings: Findings) -> tuple[pl.DataFrame, pl.Series, pl.Series]:
    """Usable events with users and items as numbers, and the ids of users and items. The log is streamed."""
    table = _typed(log.events)
    names = table.collect_schema().names()
    bad = {
        "row without a user": pl.col("user").is_null(),
        "row without an item": pl.col("user").is_not_null() & pl.col("item").is_null(),
    }
    if "time" in names:
        bad["row without a readable time"] = pl.col("user").is_not_null() & pl.col("item").is_not_null() & pl.col("time").is_null()
    if "rating" in names and settings.min_rating:
        bad["row without a readable rating"] = (
            pl.all_horizontal(pl.col(c).is_not_null() for c in ("user", "item")) & pl.col("rating").is_null()
        )
    _set_aside(table, bad, findings)
    table = table.filter(~pl.any_horizontal(*bad.values()))
    if settings.min_rating:
        if "rating" not in names:
            raise DataError(
                f"--usecase.min_rating {settings.min_rating:g}: the log has no column of ratings. Name it with --usecase.rating_column."
            )
        table = table.filter(pl.col("rating") >= settings.min_rating)
    if settings.focus_action and "action" not in names:
        raise DataError(
            f"--usecase.focus_action {settings.focus_action}: the log has no column of actions. Name it with --usecase.action_column."
        )
    wanted = ["line", "user", "item", *(name for name in ("time", "action") if name in names)]
    coded = table.select(wanted).with_columns(pl.col("user", "item").cast(pl.Categorical)).collect(engine="streaming")
    if not len(coded):
        raise DataError(f"The log ({log.layout}) has no usable event. {_quoted(findings)}")
    users, items = (coded[name].unique(maintain_order=True) for name in ("user", "item"))
    numbers = [
        coded[name].to_physical().replace_strict(ids.to_physical(), pl.int_range(len(ids), eager=True), return_dtype=pl.UInt32).alias(name)
        for name, ids in (("user", users), ("item", items))
    ]
    return coded.with_columns(*numbers), users.cast(pl.String), items.cast(pl.String)


def _typed(table: pl.LazyFrame) -> pl.LazyFrame:
    names = table.collect_schema().names()
    text = [name for name in ("user", "item", "action") if name in names]
    table = table.with_columns(pl.col(name).str.strip_chars().replace("", None) for name in text)
    if "rating" in names:
        table = table.with_columns(pl.col("rating").str.strip_chars().cast(pl.Float64, strict=False))
    if "time" in names:
        table = table.with_columns(time=_seconds(pl.col("time").str.strip_chars()))
    return table


def _seconds(text: pl.Expr) -> pl.Expr:
    """Seconds since 1970 from numbers of seconds, milli- or microseconds, or from dates in ISO 8601."""
    number = text.cast(pl.Float64, strict=False)
    size = number.abs()
    seconds = pl.when(size > 1e14).then(number / 1e6).when(size > 1e11).then(number / 1e3).otherwise(number)
    iso = text.str.replace(r" UTC$|Z$", "").str.replace("T", " ")
    dates = [
        iso.str.to_datetime(form, strict=False).dt.epoch("ms") / 1e3
        for form in ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%Y/%m/%d")
    ]
    return pl.coalesce(seconds, *dates)


def _set_aside(table: pl.LazyFrame, bad: dict[str, pl.Expr], findings: Findings) -> None:
    for kind, condition in bad.items():
        wrong = table.filter(condition).select("line")
        count = int(wrong.select(pl.len()).collect(engine="streaming").item())
        for line in wrong.head(min(NAMED, count)).collect()["line"] if count else []:
            findings.set_aside(kind, f"line {line}")
        findings.set_aside(kind, "", count - min(NAMED, count)) if count > NAMED else None


def _quoted(findings: Findings) -> str:
    return "; ".join(f"{f['kind']} ({f['count']})" for f in findings.listed()) or "It may be empty."


# -- sequences ----------------------------------------------------------------------------------------------------
def _ordered(events: pl.DataFrame, settings: Recommendation, findings: Findings) -> Sequences:
    """The events of each user in order of time, or of the file if there are no times."""
    user, item = (events[name].to_numpy().astype(np.int64) for name in ("user", "item"))
    time = events["time"].to_numpy().astype(np.float64) if "time" in events.columns else np.zeros(len(events))
    action = (
        events["action"].to_numpy() == settings.focus_action
        if "action" in events.columns and settings.focus_action
        else np.ones(len(events), bool)
    )
    order = np.lexsort((item, time, user)) if settings.ties == "item" else np.lexsort((np.arange(len(user)), time, user))
    user, item, time, action = user[order], item[order], time[order], action[order]
    if "time" in events.columns:
        tied = int(((user[1:] == user[:-1]) & (time[1:] == time[:-1])).sum())
        if tied:
            findings.note("event at the same time as the one before", "", f"ordered by {settings.ties}", tied)
    breaks = user[1:] != user[:-1]
    if settings.session_hours:
        breaks |= np.diff(time) > 3600 * settings.session_hours
    offsets = np.concatenate([[0], np.flatnonzero(breaks) + 1, [len(user)]])
    return Sequences(items=item, times=time, chosen=action, offsets=offsets, users=user[offsets[:-1]], timed="time" in events.columns)


def _renumbered(sequences: Sequences, items: pl.Series, users: pl.Series) -> tuple[Sequences, list[str], list[str]]:
    """The sequences with items numbered from 1 to n, the ids of the items, and the id of the user of each sequence.

    The order of the items is pseudo-random, so that ties between scores favour no item; 0 is padding.
    """
    kept = np.unique(sequences.items)
    ids = [str(items[int(number)]) for number in kept]
    shuffled = sorted(range(len(ids)), key=lambda i: hashlib.blake2b(ids[i].encode(), digest_size=8).digest())
    number = np.zeros(int(kept.max()) + 1, dtype=np.int32)
    number[kept[shuffled]] = np.arange(1, len(kept) + 1)
    owners = [str(users[int(user)]) for user in sequences.users]
    return sequences.with_items(number[sequences.items]), [ids[i] for i in shuffled], owners


def _focus(sequences: Sequences, ids: list[str], catalogue: Catalogue, settings: Recommendation) -> np.ndarray:
    """Which events are targets of fine-tuning and the test, bool [events]."""
    focus = sequences.chosen.copy()
    if settings.focus_action and not focus.any():
        raise DataError(f"--usecase.focus_action {settings.focus_action}: no event of the log has this action.")
    if settings.focus_category:
        in_category = np.array([False, *(settings.focus_category in catalogue.categories.get(i, ()) for i in ids)])
        if not in_category.any():
            categories = sorted({c for kinds in catalogue.categories.values() for c in kinds})
            raise DataError(
                f"--usecase.focus_category {settings.focus_category}: no item has this category. "
                f"Categories: {', '.join(categories[:30]) or 'none'}."
            )
        focus &= in_category[sequences.items]
    if settings.focus_days:
        if not sequences.timed:
            raise DataError("--usecase.focus_days needs times, but the log has none. Name their column with --usecase.time_column.")
        focus &= sequences.times >= sequences.times.max() - settings.focus_days * DAY
    return focus


def _repeats(sequences: Sequences) -> int:
    """The number of events whose item occurs earlier in the same sequence."""
    owner = np.repeat(np.arange(sequences.count), np.diff(sequences.offsets))
    pairs = owner.astype(np.int64) * (int(sequences.items.max()) + 1) + sequences.items
    return len(pairs) - len(np.unique(pairs))


def _filters(settings: Recommendation, repeating: float) -> bool:
    return settings.filter_seen == "yes" or (settings.filter_seen == "auto" and repeating < REPEATING)


def _too_few(count: int, settings: Recommendation) -> str:
    return (
        f"{count} sequences are left after --usecase.k_core {settings.k_core}; at least {MIN_SEQUENCES} are needed. "
        "Give more data or a smaller k_core."
    )


# -- writing ------------------------------------------------------------------------------------------------------
def _write_events(folder: Path, sequences: Sequences, focus: np.ndarray, owners: list[str], splits: dict[str, np.ndarray]) -> None:
    folder.mkdir(exist_ok=True)
    np.save(folder / "items.npy", sequences.items.astype(np.int32))
    np.save(folder / "focus.npy", focus)
    np.save(folder / "offsets.npy", sequences.offsets)
    for name, rows in splits.items():
        np.save(folder / f"{name}.npy", rows)
    (folder / "people.json").write_text(json.dumps(owners, ensure_ascii=False), encoding="utf-8")


def _write_assets(folder: Path, ids: list[str], catalogue: Catalogue, sequences: Sequences, train: np.ndarray, filter_seen: bool) -> None:
    folder.mkdir(exist_ok=True)
    counts = np.zeros(len(ids) + 1, dtype=np.int64)
    recent = np.zeros(len(ids) + 1, dtype=np.float64)
    latest = max((float(sequences.times[stop - 1]) for _, stop in train), default=0.0)
    half_life = max((latest - float(sequences.times.min())) / 20, DAY)
    for start, stop in train:
        np.add.at(counts, sequences.items[start:stop], 1)
        age = latest - sequences.times[start:stop]
        np.add.at(recent, sequences.items[start:stop], 0.5 ** (age / half_life))
    np.save(folder / "popularity.npy", counts)
    np.save(folder / "recent.npy", recent.astype(np.float32))
    card = {
        "items": ids,
        "titles": [catalogue.titles.get(i, "") for i in ids],
        "categories": [catalogue.categories.get(i, []) for i in ids],
        "filter_seen": filter_seen,
    }
    (folder / "catalogue.json").write_text(json.dumps(card, ensure_ascii=False), encoding="utf-8")


def _write_example(path: Path, ids: list[str], sequences: Sequences, row: np.ndarray) -> None:
    start, position = int(row[0]), int(row[1])
    history = [ids[i - 1] for i in sequences.items[max(start, position - EXAMPLE_EVENTS) : position]]
    path.write_text(json.dumps({"history": history, "k": 10}, ensure_ascii=False), encoding="utf-8")
