"""One small corpus of classes and one of entities, written in every layout, and read back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tasks.contract.codec import Codec
from tasks.contract.types import Predict, Say, Split, silently
from tasks.contract.usecase import Examples
from usecases.nlp import TextSettings
from usecases.nlp.prepare import read_and_split
from usecases.nlp.reading.layouts import data_digest, find_source
from usecases.nlp.sources import Item, Source

if TYPE_CHECKING:
    from torch import Tensor, nn

GOOD = [
    "A film to remember, warm and clever", "I laughed, then cried; superb!", "太好看了，演员很棒", "Très émouvant, à voir",
    "every scene \"works\" here 😀", "Quiet, patient and beautiful work", "the cast: simply great", "Un plaisir du début à la fin",
    "值得一看的好电影", "bright and funny all the way", "my favourite this year", "could watch it again tonight",
]  # fmt: skip
BAD = [
    "Dull, long and loud", "I left after an hour; so did she", "剧情太无聊了，浪费时间", "Très mauvais, à éviter",
    "no \"plot\" to speak of 😴", "Two hours that I want back", "the jokes: flat as paper", "Une perte de temps totale",
    "不推荐，非常失望", "weak script and a weaker end", "the worst of the series", "nobody in the hall was awake",
]  # fmt: skip
TEXTS = {text: "good" if text in GOOD else "bad" for pair in zip(GOOD, BAD, strict=True) for text in pair}

SENTENCES: list[tuple[list[str], list[tuple[int, int, str]]]] = [
    (["Anna", "Maria", "Berg", "flew", "to", "Oslo", "."], [(0, 3, "PER"), (5, 6, "LOC")]),
    (["Oslo", "Bergen", "and", "Rome"], [(0, 1, "LOC"), (1, 2, "LOC"), (3, 4, "LOC")]),
    (["王", "小", "明", "去", "了", "北", "京", "。"], [(0, 3, "PER"), (5, 7, "LOC")]),
    (["nobody", "was", "there", "😀"], []),
    (["Karl", "met", "Ida", "Holm"], [(0, 1, "PER"), (2, 4, "PER")]),
    (["She", "lives", "in", "New", "York"], [(3, 5, "LOC")]),
]
"""Tokens, and their entities by tokens. Two stand side by side in the second, so that IOB1 needs its B."""
ENTITIES = {
    "Anna Maria Berg flew to Oslo .": ["Anna Maria Berg PER", "Oslo LOC"],
    "Oslo Bergen and Rome": ["Oslo LOC", "Bergen LOC", "Rome LOC"],
    "王小明去了北京。": ["王小明 PER", "北京 LOC"],
    "nobody was there 😀": [],
    "Karl met Ida Holm": ["Karl PER", "Ida Holm PER"],
    "She lives in New York": ["New York LOC"],
}


class Read(TextSettings):
    """The settings of a vertical that reads its data, and no more."""

    name: ClassVar[str] = "read"

    @property
    def monitor(self) -> str:
        return "none"

    @property
    def output_names(self) -> tuple[str, ...]:
        return ()

    def data_digest(self) -> str:
        return data_digest(self)

    def prepare(self, folder: Path, say: Say = silently) -> dict[str, Any]:
        return read_and_split(self, folder, say)

    def examples(self, folder: Path, split: Split) -> Examples:
        raise NotImplementedError

    def network(self, assets: Path) -> nn.Module:
        raise NotImplementedError

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        raise NotImplementedError

    def score(self, predict: Predict, folder: Path, split: Split) -> dict[str, float]:
        raise NotImplementedError

    def codec(self, assets: Path) -> Codec:
        raise NotImplementedError

    def example_request(self, folder: Path) -> Path:
        raise NotImplementedError


def prepared(data: Path | str, folder: Path, **settings: Any) -> dict[str, Any]:
    """The card of prepared texts."""
    folder.mkdir(parents=True, exist_ok=True)
    return Read(data=str(data), **settings).prepare(folder)


def found(data: Path | str, **settings: Any) -> Source:
    return find_source(Read(data=str(data), **settings))


def classes(items: Iterable[Item]) -> dict[str, str]:
    """The classes by text, without outer white space."""
    return {item.text.strip(): " ".join(item.labels) for item in items}


def entities(items: Iterable[Item]) -> dict[str, list[str]]:
    """What is marked by text, as it reads, with its type."""
    return {item.text: [f"{item.text[s.start : s.end]} {s.label}" for s in item.spans] for item in items}


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


# -- classes ----------------------------------------------------------------------------------------------------------
def csv_with_header(folder: Path) -> Path:
    return write(folder / "all.csv", "id,text,label\r\n" + "".join(f"{i},{quoted(t)},{c}\r\n" for i, (t, c) in enumerate(TEXTS.items())))


def csv_label_first(folder: Path) -> Path:
    return write(folder / "all.csv", "\ufefflabel;review\n" + "".join(f"{c};{quoted(t)}\n" for t, c in TEXTS.items()))


def csv_unknown_header(folder: Path) -> Path:
    return write(folder / "all.csv", "what,said\n" + "".join(f"{c},{quoted(t)}\n" for t, c in TEXTS.items()))


def csv_without_header(folder: Path) -> Path:
    return write(folder / "all.csv", "".join(f"{quoted(t)},{c}\n" for t, c in TEXTS.items()))


def official_ag_news(folder: Path) -> Path:
    """Class from 1, title, description, all quoted; the names in a list."""
    write(folder / "classes.txt", "good\nbad\n")
    rows = ((t.partition(" "), 1 if c == "good" else 2) for t, c in TEXTS.items())
    return write(folder / "train.csv", "".join(f'"{n}",{quoted(a)},{quoted(b)}\n' for (a, _, b), n in rows if b)).parent


def tsv_of_glue(folder: Path) -> Path:
    """Without quotes: a quotation mark stands for itself. The labels of the test are held back."""
    rows = [f"{t} \t{int(c == 'good')}\n" for t, c in TEXTS.items()]
    write(folder / "train.tsv", "sentence\tlabel\n" + "".join(rows[:16]))
    write(folder / "dev.tsv", "sentence\tlabel\n" + "".join(rows[16:]))
    write(folder / "test.tsv", "index\tsentence\n0\tnobody knows\n1\tas yet\n")
    return write(folder / "mapping.txt", "0\tbad\n1\tgood\n").parent


def tab_and_number(folder: Path) -> Path:
    write(folder / "class.txt", "bad\ngood\n")
    for split, part in (("train", slice(0, 16)), ("dev", slice(16, 20)), ("test", slice(20, 24))):
        write(folder / f"{split}.txt", "".join(f"{t}\t{int(c == 'good')}\n" for t, c in list(TEXTS.items())[part]))
    return folder


def split_column(folder: Path) -> Path:
    parts = ["train"] * 16 + ["dev"] * 4 + ["test"] * 4
    return write(folder / "all.csv", "split,text,intent\n" + "".join(f"{s},{quoted(t)},{c}\n" for s, (t, c) in zip(parts, TEXTS.items(), strict=True)))  # fmt: skip


def json_lines(folder: Path) -> Path:
    return write(folder / "all.jsonl", "".join(json.dumps({"id": str(i), "text": t, "label": c}) + "\n" for i, (t, c) in enumerate(TEXTS.items())))  # fmt: skip


def json_list(folder: Path) -> Path:
    rows = [{"sentence": t, "category": c} for t, c in TEXTS.items()]
    return write(folder / "all.json", json.dumps(rows, ensure_ascii=False, indent=1))


def json_by_split(folder: Path) -> Path:
    rows = [[t, c] for t, c in TEXTS.items()]
    return write(folder / "data_full.json", json.dumps({"train": rows[:16], "val": rows[16:20], "test": rows[20:]}))


def parquet(folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    features = {"text": {"dtype": "string"}, "label": {"names": ["bad", "good"], "_type": "ClassLabel"}}
    table = pa.table({"text": list(TEXTS), "label": [int(c == "good") for c in TEXTS.values()]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table.slice(0, 18), folder / "train-00000-of-00001.parquet", row_group_size=5)
    pq.write_table(table.slice(18), folder / "test-00000-of-00001.parquet")
    return folder


def class_folders(folder: Path) -> Path:
    for i, (t, c) in enumerate(TEXTS.items()):
        write(folder / c / f"C{i:03d}.TXT", t)
    return folder


def class_folders_with_splits(folder: Path) -> Path:
    for i, (t, c) in enumerate(TEXTS.items()):
        write(folder / "corpus" / ("train" if i < 18 else "test") / c / f"{i}.txt", t)
    write(folder / "corpus" / "train" / "unsup" / "1.txt", "nobody knows")
    write(folder / "corpus" / "README", "about")
    return folder


def fasttext(folder: Path) -> Path:
    return write(folder / "cooking.train", "".join(f"__label__{c} {t}\n" for t, c in TEXTS.items()))


def trec(folder: Path) -> Path:
    return write(folder / "TREC.train", "".join(f"{'ENTY' if c == 'good' else 'DESC'}:{c} {t}\n" for t, c in TEXTS.items()))


def parallel(folder: Path) -> Path:
    items = list(TEXTS.items())
    for split, part in (("train", items[:16]), ("val", items[16:20]), ("test", items[20:])):
        write(folder / f"{split}_text.txt", "".join(f"{t}\n" for t, _ in part))
        write(folder / f"{split}_labels.txt", "".join(f"{int(c == 'good')}\n" for _, c in part))
    return write(folder / "mapping.txt", "0\tbad\n1\tgood").parent


def file_per_class(folder: Path) -> Path:
    write(folder / "rt-polarity.good", "\n".join(GOOD))
    return write(folder / "rt-polarity.bad", "\n".join(BAD)).parent


def file_per_class_and_split(folder: Path) -> Path:
    for name, part in (("good", GOOD), ("bad", BAD)):
        write(folder / "train" / f"{name}.txt", "\n".join(part[:9]))
        write(folder / "test" / f"{name}.txt", "\n".join(part[9:]))
    return folder


CLASS_LAYOUTS: list[Callable[[Path], Path]] = [
    csv_with_header, csv_label_first, csv_unknown_header, csv_without_header, tsv_of_glue, tab_and_number, split_column, json_lines, json_list,
    json_by_split, parquet, class_folders, class_folders_with_splits, fasttext, trec, parallel, file_per_class, file_per_class_and_split,
]  # fmt: skip


# -- entities ---------------------------------------------------------------------------------------------------------
def tags(spans: list[tuple[int, int, str]], count: int, scheme: str) -> list[str]:
    """The tags of `count` tokens in a scheme, written here a second time so that reading them is tested against it."""
    written = ["O"] * count
    for first, past, label in spans:
        one, begin, inside, end = {"IOB2": "BBII", "IOB1": "IIII", "BIOES": "SBIE", "BILOU": "UBIL", "BMES": "SBME"}[scheme]
        if scheme == "IOB1" and first and written[first - 1][2:] == label:
            one = begin = "B"
        written[first:past] = [f"{one}-{label}"] if past - first == 1 else [f"{begin}-{label}", *[f"{inside}-{label}"] * (past - first - 2), f"{end}-{label}"]  # fmt: skip
    return written


def columns(form: str, scheme: str, blank: str = "") -> str:
    """A line per token, by a form with `token`, `tag` and `place`."""
    sentences = [
        "".join(form.format(token=token, tag=tag, place=place) + "\n" for place, (token, tag) in enumerate(zip(tokens, tags(spans, len(tokens), scheme), strict=True), start=1))
        for tokens, spans in SENTENCES
    ]  # fmt: skip
    return f"{blank}\n".join(sentences)


def conll_2003(folder: Path) -> Path:
    """Four columns in IOB1, the third of chunks, with marks between documents."""
    text = columns("{token} NN B-NP {tag}", "IOB1")
    first, _, rest = text.partition("\n\n")
    return write(folder / "eng.train", f"-DOCSTART- -X- O O\n\n{first}\n\n-DOCSTART- -X- -X- O\n\n{rest}").parent


def conll_space(folder: Path) -> Path:
    return write(folder / "all.txt", columns("{token} {tag}", "IOB2"))


def conll_tab(folder: Path) -> Path:
    return write(folder / "wnut17train.conll", columns("{token}\t{tag}", "IOB2", blank="\t"))


def conll_bioes(folder: Path) -> Path:
    return write(folder / "all.bio", columns("{token} {tag}", "BIOES", blank="  ").replace("\n", "\r\n"))


def conll_bilou(folder: Path) -> Path:
    return write(folder / "all.conll", columns("{token}\t_\t{tag}", "BILOU"))


def conll_bmes(folder: Path) -> Path:
    return write(folder / "all.txt", columns("{token} {tag}", "BMES"))


def conll_numbered(folder: Path) -> Path:
    """Comments, and the place in the sentence before the token."""
    return write(folder / "all.tsv", "# a source [2010]\n" + columns("{place}\t{token}\t{tag}", "IOB2"))


def cluener(folder: Path) -> Path:
    """Ends inclusive, by type and surface."""
    lines = []
    for text, marked in ENTITIES.items():
        label: dict[str, dict[str, list[list[int]]]] = {}
        for surface, kind in (one.rsplit(" ", 1) for one in marked):
            start = text.index(surface)
            label.setdefault(kind, {})[surface] = [[start, start + len(surface) - 1]]
        lines.append(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n")
    return write(folder / "train.json", "".join(lines)).parent


def _offsets() -> Iterable[tuple[str, list[tuple[int, int, str, str]]]]:
    for text, marked in ENTITIES.items():
        pairs = (one.rsplit(" ", 1) for one in marked)
        yield text, [(text.index(surface), text.index(surface) + len(surface), kind, surface) for surface, kind in pairs]


def doccano(folder: Path) -> Path:
    rows = [{"id": i, "text": text, "label": [list(s[:3]) for s in spans]} for i, (text, spans) in enumerate(_offsets())]
    return write(folder / "all.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def objects_with_spans(folder: Path) -> Path:
    rows = [
        {"text": text, "entities": [{"start": s, "end": e, "label": kind} for s, e, kind, _ in spans], "id": f"x{i}"}
        for i, (text, spans) in enumerate(_offsets())
    ]
    return write(folder / "all.json", json.dumps(rows))


def inclusive_objects(folder: Path) -> Path:
    rows = [
        {"text": text, "entities": [{"start_idx": s, "end_idx": e - 1, "type": kind, "entity": w} for s, e, kind, w in spans]}
        for text, spans in _offsets()
    ]
    return write(folder / "all.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def token_lists(folder: Path) -> Path:
    rows = [{"tokens": tokens, "ner_tags": tags(spans, len(tokens), "IOB2")} for tokens, spans in SENTENCES]
    return write(folder / "all.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


ENTITY_LAYOUTS: list[Callable[[Path], Path]] = [
    conll_2003, conll_space, conll_tab, conll_bioes, conll_bilou, conll_bmes, conll_numbered,
    cluener, doccano, objects_with_spans, inclusive_objects, token_lists,
]  # fmt: skip
