"""Every kind of block that answers have is drawn by the terminal, the report, the log line and the page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from rich.console import Console

from tasks.contract.blocks import AnswerBlock, Bars, ReportBlock, kinds, plain_blocks
from tasks.reporting import blocks as report_blocks
from tasks.reporting.facts import Facts
from tasks.reporting.report import page
from tasks.reporting.terminal_blocks import LINES, SUMMARIES, one_line, terminal_lines
from tests.reporting.answers import EVERY, SAMPLES
from tests.reporting.conftest import TRAP
from tests.reporting.test_report import Reader

PAGE = Path(__file__).parents[2] / "tasks" / "serving" / "page"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def page_kinds() -> set[str]:
    """The kinds of blocks that the page draws: the keys of its table `draw`."""
    table = re.search(r"^const draw = \{\n(.*?)^\};", (PAGE / "page.js").read_text(), re.S | re.M)
    assert table
    return set(re.findall(r"^  (\w+): \(block\)", table[1], re.M))


def test_every_renderer_draws_every_kind() -> None:
    answers = set(kinds(AnswerBlock))
    assert len(answers) >= 6 and answers == SAMPLES.keys() == LINES.keys() == SUMMARIES.keys() == page_kinds()
    assert set(kinds(ReportBlock)) == report_blocks.KINDS.keys() and answers < report_blocks.KINDS.keys()


@pytest.mark.parametrize("block", EVERY, ids=lambda block: f"{block['kind']} {block['title'][:9]}")
def test_blocks_are_drawn_with_their_texts_and_values(block: AnswerBlock) -> None:
    assert TypeAdapter(AnswerBlock).validate_python(block) == block, "the sample has the fields of its kind"
    drawn = {"report": Reader(report_blocks.draw(block)).text, "terminal": "\n".join(line.plain for line in terminal_lines(block))}
    for name, text in drawn.items():
        assert text.startswith(block["title"]), name
        for expected in re.findall(
            r"cat|97\.3 %|down|-1\.5|rest|Anna|PER|東京|item-8|road|55\.1 %|\+7\.000|-0\.120 ± 0\.050|left|blank", str(block)
        ):
            assert expected in text, name
    assert "<script" not in report_blocks.draw(block) and "example.org" not in report_blocks.draw(block)
    assert isinstance(one_line([block]), str) and "\n" not in one_line([block])


def test_numbers_are_shown_for_people() -> None:
    lines = "\n".join(line.plain for block in EVERY for line in terminal_lines(block))
    for expected in ("97.3 %", "55.1 %", "-0.120 ± 0.050", "1, 2, 30.5, 40", "Anna [PER 99%] is in Oslo"):
        assert expected in lines
    assert one_line(SAMPLES["bars"]).startswith("cat 97.3 %; up 3; empty")
    assert one_line(SAMPLES["words"][:1], 90).startswith("Anna PER, Oslo <script>")
    assert one_line(SAMPLES["gauge"][:3]) == "Steering -0.120 ± 0.050; beyond 7.000; Price 312 ± 15 €"
    assert len(one_line(EVERY)) <= 60


def test_text_from_data_does_not_steer_the_terminal() -> None:
    console = Console(force_terminal=True, color_system=None, width=80)
    with console.capture() as captured:
        for line in terminal_lines({"kind": "note", "title": "a\x1b[2Jb", "text": "c\x1b]0;d\x07e\x9bf"}):
            console.print(line)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", captured.get())


def test_an_answer_whose_codec_draws_nothing_has_bars_where_it_has_probabilities() -> None:
    answer = {"label": "b", "sure": True, "top": [{"label": "b", "p": 0.75}, {"label": "a", "p": 0.25}], "odd": [{"x": 1, "y": 2}]}
    note, bars = plain_blocks(answer)
    assert note == {"kind": "note", "title": "label b, sure True"}
    expected: Bars = {
        "kind": "bars",
        "title": "top",
        "unit": "share",
        "items": [{"label": "b", "value": 0.75}, {"label": "a", "value": 0.25}],
    }
    assert bars == expected
    assert [block["title"] for block in plain_blocks({"shares": {"road": 0.5, "sky": 0.5}})] == ["shares"]
    assert plain_blocks({}) == [{"kind": "note", "title": "Answered"}]


def test_the_report_shows_the_answer_to_the_example_request(facts: Facts) -> None:
    assert "example request" not in page(facts)
    written = page(facts.model_copy(update={"answer": tuple(EVERY)}))
    assert TRAP not in written and not re.search(r"https?:", written)
    assert "Answer to the example request" in Reader(written).text and "-0.120 ± 0.050" in Reader(written).text


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
def test_the_page_draws_every_kind_in_a_browser(tmp_path: Path) -> None:
    assert BROWSER is not None
    index, script = ((PAGE / name).read_text() for name in ("index.html", "page.js"))
    body = index[index.index("<body>") :]
    blocks = json.dumps(EVERY).replace("<", "\\u003c")
    last = f"show({{blocks: {blocks}, model: 'toy', version: '1'}}, 3);"
    states = "state.models = [{name: 'toy', takes: 'history'}]; find('model').append(make('option', 'toy', {value: 'toy'}));"
    (tmp_path / "page.html").write_text(
        f"<meta charset=utf-8>{body}<script>fetch = () => new Promise(() => 0);\n{script}\n{states}{last}</script>"
    )
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    done = subprocess.run([*command, (tmp_path / "page.html").as_uri()], capture_output=True, text=True, timeout=120)
    shown = done.stdout.partition('<section id="answer"')[2].partition("</section>")[0]
    assert shown.count("<article>") == len(EVERY), done.stdout[-3000:]
    assert "<script" not in shown and 'src="https' not in shown
    for expected in (
        "97.3 %",
        "Anna<small>PER</small>",
        "東京",
        "55.1 %",
        "-0.120 ± 0.050",
        "312 ± 15 €",
        "left",
        "item-8",
        'class="error"',
    ):
        assert expected in shown
