"""One small log, written in every layout, and read back as the histories of users."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from usecases.recommendation import Recommendation
from usecases.recommendation.sequences import Events, read_catalogue

HISTORIES = {
    "7": ["101", "102", "103", "104"],
    "8": ["102", "101", "104", "103", "105"],
    "9": ["105", "104", "103"],
    "10": ["101", "105", "102", "103"],
}
ROWS = [(user, item, 900_000_000 + 86_400 * place + int(user)) for user, history in HISTORIES.items() for place, item in enumerate(history)]
TITLES = {"101": "Heat, the (1995)", "102": "Café", "103": "東京物語", "104": "Fargo", "105": "Brazil"}
GENRES = {"101": ["Action", "Crime"], "102": ["Comedy"], "103": ["Drama"], "104": ["Crime"], "105": ["Comedy", "Drama"]}


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def recbole(folder: Path) -> Path:
    rows = "".join(f"{u}\t{i}\t4\t{t}\n" for u, i, t in ROWS)
    write(folder / "ml.inter", f"user_id:token\titem_id:token\trating:float\ttimestamp:float\n{rows}")
    kinds = "".join(f"{i}\t{TITLES[i]}\t{' '.join(GENRES[i])}\n" for i in TITLES)
    write(folder / "ml.item", f"item_id:token\tmovie_title:token_seq\tclass:token_seq\n{kinds}")
    return folder


def movielens_100k(folder: Path) -> Path:
    write(folder / "u.data", "".join(f"{u}\t{i}\t4\t{t}\n" for u, i, t in reversed(ROWS)))
    names = ["Action", "Crime", "Comedy", "Drama"]
    write(folder / "u.genre", "".join(f"{name}|{i}\n" for i, name in enumerate(names)))
    flags = {i: "|".join(str(int(n in GENRES[i])) for n in names) for i in TITLES}
    latin = {**TITLES, "103": "Tokyo Story"}
    write(folder / "u.item", "".join(f"{i}|{latin[i]}|01-Jan-1995||http://x|{flags[i]}\n" for i in TITLES), "latin-1")
    return folder


def movielens_1m(folder: Path) -> Path:
    write(folder / "ratings.dat", "".join(f"{u}::{i}::4::{t}\n" for u, i, t in ROWS))
    latin = {**TITLES, "103": "Tokyo Story"}
    write(folder / "movies.dat", "".join(f"{i}::{latin[i]}::{'|'.join(GENRES[i])}\n" for i in TITLES), "latin-1")
    return folder


def movielens_csv(folder: Path) -> Path:
    write(folder / "ratings.csv", "userId,movieId,rating,timestamp\r\n" + "".join(f"{u},{i},4.0,{t}\r\n" for u, i, t in ROWS))
    write(folder / "movies.csv", "movieId,title,genres\r\n" + "".join(f'{i},"{TITLES[i]}",{"|".join(GENRES[i])}\r\n' for i in TITLES))
    write(folder / "tags.csv", "userId,movieId,tag,timestamp\r\n" + "7,101,long tag,1\r\n" * 200)
    return folder


def pairs(folder: Path) -> Path:
    return write(folder / "log.txt", "".join(f"{u} {i}\n" for u, i, _ in ROWS))


def sequences(folder: Path) -> Path:
    return write(folder / "log.txt", "".join(f"{u} {' '.join(items)}\n" for u, items in HISTORIES.items()))


def dates(folder: Path) -> Path:
    when = {t: str(np.datetime64(t, "s")) + "Z" for _, _, t in ROWS}
    return write(folder / "shop.csv", "\ufeffevent_time;product_id;customer\n" + "".join(f"{when[t]};{i};{u}\n" for u, i, t in ROWS))


def headless(folder: Path) -> Path:
    return write(folder / "log.csv", "".join(f"{u},{i},4,{t}\n" for u, i, t in ROWS))


def headless_times(folder: Path) -> Path:
    return write(folder / "log.tsv", "".join(f"{u}\t{i}\t{t}\n" for u, i, t in reversed(ROWS)))


def json_lines(folder: Path) -> Path:
    rows = [{"helpful-votes": 0, "reviewerID": u, "asin": i, "helpful": [0, 1], "overall": 4.0, "unixReviewTime": t} for u, i, t in ROWS]
    return write(folder / "reviews.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def json_lines_in_a_folder(folder: Path) -> Path:
    """As Amazon's data are published: the metadata of the items are a larger file."""
    json_lines(folder)
    kinds = [{"parent_asin": i, "title": TITLES[i], "description": ["long"] * 100} for i in TITLES]
    write(folder / "meta_items.jsonl", "".join(json.dumps(kind) + "\n" for kind in kinds))
    return folder


def parquet(folder: Path) -> Path:
    import polars as pl

    folder.mkdir(parents=True, exist_ok=True)
    columns = {"session": [int(u) for u, _, _ in ROWS], "article_id": [i for _, i, _ in ROWS], "ts": [1000 * t for _, _, t in ROWS]}
    pl.DataFrame(columns).reverse().write_parquet(folder / "log.parquet")
    return folder


LAYOUTS: list[Callable[[Path], Path]] = [
    recbole, movielens_100k, movielens_1m, movielens_csv, pairs, sequences, dates, headless, headless_times, parquet, json_lines, json_lines_in_a_folder
]  # fmt: skip


def prepared(data: Path | str, folder: Path, **settings: Any) -> tuple[dict[str, Any], Path]:
    """The card and the folder of a prepared log; by default no event is filtered out."""
    folder.mkdir(parents=True, exist_ok=True)
    card = Recommendation(data=str(data), **{"k_core": 1, **settings}).prepare(folder)
    return card, folder


def histories(folder: Path) -> dict[str, list[str]]:
    """The history of each user by raw ids; several sequences of a user are joined."""
    events, ids = Events(folder), read_catalogue(folder / "assets")["items"]
    offsets = np.load(folder / "events" / "offsets.npy")
    users = json.loads((folder / "events" / "people.json").read_text())
    found: dict[str, list[str]] = {}
    for user, start, stop in zip(users, offsets[:-1], offsets[1:], strict=True):
        found.setdefault(user, []).extend(ids[i - 1] for i in events.items[start:stop])
    return found


def asked(folder: Path, split: str) -> list[tuple[list[str], str]]:
    """The examples of a split: the history and the item that came next."""
    events, ids = Events(folder), read_catalogue(folder / "assets")["items"]
    return [([ids[i - 1] for i in events.items[start:target]], ids[events.items[target] - 1]) for start, target in events.splits[split]]
