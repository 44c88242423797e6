"""A sample of every kind of block that answers have, with the traps that real data set: markup, emoji, negative values, nothing at all."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pydantic import TypeAdapter

from tasks.contract.blocks import AnswerBlock
from tasks.reporting.blocks import draw
from tasks.reporting.terminal_blocks import terminal_lines
from tests.reporting.conftest import PIXEL, TRAP

SAMPLES: dict[str, list[AnswerBlock]] = {
    "bars": [
        {
            "kind": "bars",
            "title": f"cat {TRAP}",
            "unit": "share",
            "items": [{"label": "cat", "value": 0.973}, {"label": TRAP, "value": 0.027}],
        },
        {
            "kind": "bars",
            "title": "signed",
            "caption": TRAP,
            "items": [{"label": "up", "value": 3}, {"label": "down", "value": -1.5}, {"label": "rest"}],
        },
        {"kind": "bars", "title": "empty", "items": []},
    ],
    "words": [
        {
            "kind": "words",
            "title": "2 entities",
            "items": [
                {
                    "text": f"😀 Anna is in Oslo {TRAP}",
                    "marks": [
                        {"start": 2, "end": 6, "label": "PER", "weight": 0.99},
                        {"start": 13, "end": 17, "label": TRAP, "weight": 0.5},
                    ],
                }
            ],
        },
        {
            "kind": "words",
            "title": "why",
            "items": [{"title": TRAP, "text": "not good", "marks": [{"start": 0, "end": 3, "weight": -1.0}]}],
        },
    ],
    "ranking": [
        {
            "kind": "ranking",
            "title": "Recommended",
            "items": [
                {"id": "7", "label": TRAP, "value": 3.25, "detail": "Drama, 東京"},
                {"id": "item-8", "label": "item-8", "value": -0.5},
            ],
        },
        {"kind": "ranking", "title": "nothing", "items": []},
    ],
    "overlay": [
        {"kind": "overlay", "title": "seen", "image": PIXEL, "items": []},
        {"kind": "overlay", "title": "elsewhere", "image": "https://example.org/x.png", "items": []},
        {
            "kind": "overlay",
            "title": "legend",
            "items": [{"label": "road", "value": 0.551, "colour": "#804080"}, {"label": TRAP, "value": 0.9, "box": [1.0, 2.0, 30.5, 40.0]}],
        },
    ],
    "gauge": [
        {"kind": "gauge", "title": "Steering", "value": -0.12, "deviation": 0.05, "low": -1, "high": 1, "ends": ["left", "right"]},
        {"kind": "gauge", "title": "beyond", "value": 7.0, "low": 0, "high": 5},
        {"kind": "gauge", "title": "Price", "value": 312.4, "deviation": 15.2, "low": 0, "high": 1000, "unit": "€"},
        {"kind": "gauge", "title": "without a range", "value": 1.0, "low": 1, "high": 1},
    ],
    "note": [
        {"kind": "note", "title": TRAP, "text": f"the picture is blank {TRAP}", "warning": True},
        {"kind": "note", "title": "Advice: keep"},
    ],
}
EVERY = [block for blocks in SAMPLES.values() for block in blocks]


def drawn_everywhere(blocks: Sequence[AnswerBlock]) -> str:
    """The blocks of a codec as the terminal shows them; they have the fields of their kinds, are JSON, and the report draws them, too."""
    assert TypeAdapter(list[AnswerBlock]).validate_python(blocks) == json.loads(json.dumps(blocks)) == blocks
    for block in blocks:
        assert draw(block)
    return "\n".join(line.plain for block in blocks for line in terminal_lines(block))
