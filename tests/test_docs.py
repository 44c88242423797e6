"""Every command of the documentation is run or validated, and the documentation builds."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import small_data
from tests.documents import LANGUAGES, NEEDS, ROOT, Block, blocks_of, made_small, pages, validate

BLOCKS = [block for page in pages() for block in blocks_of(page)]
CHANGED = {page: min((b.line for b in blocks_of(page) if b.changes_project), default=sys.maxsize) for page in pages()}
"""The line from which on the project of a page is not this one."""
START_SECONDS = 120
MAX_README_LINES = 130
LEFT = re.compile(r"^--- a/(.+)$", re.MULTILINE)


def ids(block: Block) -> str:
    return block.where


# -- validation -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("block", BLOCKS, ids=ids)
def test_block_is_marked(block: Block) -> None:
    assert block.kind, f"{block.where}: put <!-- run -->, <!-- small --> or <!-- needs: {'|'.join(NEEDS)} --> before the block"
    assert block.kind != "needs" or block.detail in NEEDS, f"{block.where}: needs: {block.detail} is none of {', '.join(NEEDS)}"


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in ("bash", "console") and b.line < CHANGED[b.page]], ids=ids)
def test_commands_are_valid(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    assert block.commands, f"{block.where}: no command was found"
    for words in block.commands:
        validate(words, monkeypatch)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in ("python", "toml")], ids=ids)
def test_code_can_be_read(block: Block) -> None:
    if block.language == "toml":
        tomllib.loads(block.text)
    else:
        compile(block.text, block.where, "exec")


def test_counts(capsys: pytest.CaptureFixture[str]) -> None:
    counts = Counter(f"{block.kind}: {block.detail}" if block.kind == "needs" else block.kind for block in BLOCKS)
    commands = sum(len(block.commands) for block in BLOCKS if block.language in ("bash", "console"))
    with capsys.disabled():
        print(
            f"\ndocumentation: {len(BLOCKS)} blocks, {commands} commands; " + ", ".join(f"{kind} {n}" for kind, n in sorted(counts.items()))
        )
    assert set(LANGUAGES[:3]) <= {block.language for block in BLOCKS}, "a language of the documentation is not found any more"


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MAX_README_LINES


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    folder = (ROOT / page).parent
    broken = [link for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text) if not (folder / link).exists()]
    assert not broken, f"{page} links to {', '.join(broken)}"


@pytest.mark.slow
def test_documentation_builds(tmp_path: Path) -> None:
    if importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("mkdocstrings") is None:
        pytest.skip("mkdocs-material and mkdocstrings are not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = [
        f"{page.name}: {address}"
        for page in (tmp_path / "site").rglob("*.html")
        for address in re.findall(
            r"<(?:script|img|iframe)[^>]*src=\"(https?:[^\"]+)|<link[^>]*rel=\"stylesheet\"[^>]*href=\"(https?:[^\"]+)",
            page.read_text(encoding="utf-8"),
        )
    ]
    assert not loaded, f"pages load from elsewhere: {loaded}"


# -- running ----------------------------------------------------------------------------------------------------------
@dataclass
class Reader:
    """A copy of the project in which somebody follows the documentation, with data next to it."""

    project: Path
    port: int
    environment: dict[str, str]
    servers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def site(self) -> Path:
        return self.project.parent / "site"

    def follow(self, block: Block) -> None:
        if block.kind == "run" and block.detail == "server":
            self.serve(block.commands[0])
        elif block.language == "diff":
            self.patch(block)
        elif block.kind == "run" and block.detail:
            path = self.project / block.detail
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            self.call([sys.executable, "-c", block.text], block)
        else:
            for words in block.commands:
                self.call(self.adapted(made_small(words) if block.kind == "small" else words), block)

    def adapted(self, words: list[str]) -> list[str]:
        """For this reader: the port, a folder for packages, runs by their place."""
        words = [word.replace("localhost:8000", f"localhost:{self.port}") for word in words]
        if words[0] == "pip":
            install = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--no-warn-conflicts", "--target", str(self.site)]
            return [sys.executable, "-m", "pip", *install, *(word for word in words[2:] if word != "-e")]
        if words[:2] == ["verticals", "compare"]:
            return ["verticals", "compare", "last-1", "last"]
        if words[0] == "curl":
            return ["curl", "--fail-with-body", "--silent", "--show-error", *words[1:]]
        return [sys.executable if word == "python" else word for word in words]

    def call(self, words: list[str], block: Block) -> None:
        shell = f"exec {shlex.join(words)}".replace("'>'", ">")
        done = subprocess.run(["bash", "-c", shell], cwd=self.project, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{block.where}: {shlex.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"

    def serve(self, words: list[str]) -> None:
        self.stop()
        command = [*words, "--port", str(self.port)]
        self.servers.append(
            subprocess.Popen(command, cwd=self.project, env=self.environment, stderr=subprocess.DEVNULL, start_new_session=True)
        )
        deadline = time.monotonic() + START_SECONDS
        while not answers(f"http://localhost:{self.port}/v2/health/ready"):
            assert self.servers[-1].poll() is None and time.monotonic() < deadline, "the model server did not start"
            time.sleep(0.2)

    def stop(self) -> None:
        for server in self.servers:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait()
        self.servers.clear()

    def patch(self, block: Block) -> None:
        """Replace the lines of a change that exist exactly once; their numbers do not count."""
        (name,) = LEFT.findall(block.text)
        lines = [line for line in block.text.splitlines() if not line.startswith(("---", "+++", "@@"))]
        before = "\n".join(line[1:] for line in lines if line[0] in " -")
        after = "\n".join(line[1:] for line in lines if line[0] in " +")
        path = self.project / name
        text = path.read_text(encoding="utf-8")
        assert text.count(f"{before}\n") == 1, f"{block.where}: {name} does not hold once: {before}"
        path.write_text(text.replace(f"{before}\n", f"{after}\n"), encoding="utf-8")


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("reader")
    small_data.write_all(folder)
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if not name.startswith("tests/") and (ROOT / name).is_file():
            (folder / "project" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "project" / name)
    programs = folder / "bin"
    programs.mkdir()
    (programs / "verticals").write_text(f'#!/bin/sh\nexec {sys.executable} -m flows "$@"\n')
    (programs / "verticals").chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name not in ("VERTICALS_HOME", "PREFECT_API_URL")}
    environment["PYTHONPATH"] = os.pathsep.join([str(folder / "site"), str(folder / "project")])
    environment["PATH"] = os.pathsep.join([str(programs), str(Path(sys.executable).parent), environment["PATH"]])
    found = Reader(folder / "project", port, environment)
    yield found
    found.stop()


RUN = [page for page in pages() if any(block.kind in ("run", "small") for block in blocks_of(page))]


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.slow if page == "README.md" else pytest.mark.matrix) for page in RUN]
)
def test_commands_run(page: str, reader: Reader) -> None:
    try:
        for block in blocks_of(page):
            if block.kind in ("run", "small"):
                reader.follow(block)
    finally:
        reader.stop()
