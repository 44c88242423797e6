"""Mutated requests and noise against a real server: `python -m benchmarks.serving.fuzz REPOSITORY_OR_BUNDLE --minutes 10`.

In turns: mutations over HTTP, mutations over gRPC, and schemathesis on the OpenAPI description if VERTICALS_SCHEMATHESIS names its program
(which needs its own environment). After every turn, valid requests must have correct answers. Findings are: a status of 5xx other than 503
and 504, the gRPC statuses UNKNOWN and INTERNAL, a traceback in the log, no answer, a request that takes more memory than MAX_MEMORY, and
the end of the process. Each kind is reported once, with the smallest request found, which is saved under .verticals/fuzz.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.errors import Flaky, HypothesisWarning
from hypothesis.strategies import SearchStrategy

from benchmarks.serving.live import LENGTH, ROOT, Live, Sample, Valid, copied, read_answer, read_message, sampled, serving, valid_requests
from benchmarks.serving.mutations import Call, Case, http_cases, rpc_cases
from tasks.serving.messages import MESSAGES, SERVICE

LIMITS = ("--max_megabytes", "8", "--cache_megabytes", "16", "--deadline_seconds", "10")
MAX_MEMORY = 400.0  # MB that one request of 8 MB may take temporarily
TURN, SHRINK = 30.0, 15.0  # time limits in seconds
KEPT = ROOT / ".verticals" / "fuzz"
HUNTING = settings(
    max_examples=10**6,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.large_base_example],
    verbosity=Verbosity.quiet,
    report_multiple_bugs=False,
)
MANY = 1_000  # seeds of turns are below this number
UPSTREAM = "the handler is closed"  # uvicorn answers a request on a connection that it closed because of garbage after the request; no answer is lost
SETTLE = 0.05  # seconds in which the server detects that a client has disconnected


class Found(Exception):
    """A finding; makes hypothesis shrink the case."""


class Enough(BaseException):
    """The time is over; hypothesis does not catch it."""


class Ended(BaseException):
    """The process of the server has ended."""


class Fuzzer:
    """Sends cases, and keeps the smallest case of each kind of finding."""

    def __init__(self, live: Live, valid: Sequence[Valid]) -> None:
        self.live, self.valid = live, valid
        self.statuses: Counter[tuple[str, str]] = Counter()
        self.found: dict[str, Case | Call | str] = {}
        self.trace: dict[str, str] = {}  # the last one of each kind
        self.channel = grpc.insecure_channel(f"127.0.0.1:{live.grpc_port}", [("grpc.max_receive_message_length", -1)])
        self._log, self._begun = live.log.open(encoding="utf-8", errors="replace"), ""

    # -- one case -----------------------------------------------------------------------------------------------------
    def send(self, case: Case | Call) -> str:
        """The kind of finding; empty if the answer is fine."""
        level = peak(self.live, reset=True)
        status, message = self.call(case) if isinstance(case, Call) else self.write(case)
        self.statuses[case.way, status] += 1
        if status in ("hung up", "no answer", "DEADLINE_EXCEEDED"):
            time.sleep(SETTLE)
        if self.live.process.poll() is not None:
            self.found.setdefault(f"the process ended with {self.live.process.returncode}", case)
            raise Ended
        trace = self.traces()
        if trace or bad(status):  # the error may be logged again once the answer is written
            time.sleep(SETTLE)
            trace += self.traces()
        if trace:
            return trace[0]
        if bad(status):
            return f"status {status}: {anonymous(message)[:80]}"
        if status == "no answer" and isinstance(case, Case) and case.whole and len(case.data) < 1e6:
            return f"no answer: {message}"
        taken = peak(self.live) - level
        return f"more than {MAX_MEMORY:.0f} MB taken by one request" if taken > MAX_MEMORY else ""

    def write(self, case: Case) -> tuple[str, str]:
        port = self.live.grpc_port if case.way.startswith("gRPC") else self.live.port
        words = ""
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.settimeout(case.wait or 10)
            with contextlib.suppress(OSError):  # a refusal may come before all is written
                connection.sendall(case.data)
            if not case.wait:
                return "hung up", ""
            with contextlib.closing(http.client.HTTPResponse(connection, method=case.data.partition(b" ")[0].decode("latin-1"))) as answer:
                try:
                    answer.begin()
                    words = answer.read().decode("utf-8", "replace")
                    return str(answer.status), words
                except (OSError, http.client.HTTPException, ValueError) as error:
                    return "no answer", type(error).__name__

    def call(self, case: Call) -> tuple[str, str]:
        try:
            self.channel.unary_unary(f"/{SERVICE}/{case.method}")(case.data, timeout=case.seconds)
        except grpc.RpcError as error:
            return error.code().name, error.details() or ""  # pyright: ignore[reportAttributeAccessIssue]
        return "OK", ""

    def traces(self) -> list[str]:
        """Error and place of each new traceback in the log."""
        *lines, self._begun = (self._begun + self._log.read()).split("\n")
        found = []
        for line in lines:
            trace = json.loads(line).get("trace", "") if line.startswith("{") else ""
            if trace and UPSTREAM in trace:
                self.statuses["uvicorn itself", "traceback in the log"] += 1
            elif trace:
                frames = re.findall(r'File "(.*?)", line (\d+)', trace)
                file, line_number = ([frame for frame in frames if "/tasks/" in frame[0]] or frames)[-1]
                found.append(f"{trace.strip().splitlines()[-1].partition(':')[0]} in {Path(file).name}:{line_number}")
                self.trace[found[-1]] = trace
        return found

    # -- turns --------------------------------------------------------------------------------------------------------
    def hunt(self, cases: SearchStrategy[Any], number: int, end: float) -> None:
        """Send cases until the time is over; each finding is shrunk for up to SHRINK seconds."""
        while time.monotonic() < end:
            self.hunt_one(cases, number, end)
            number += MANY

    def hunt_one(self, cases: SearchStrategy[Any], number: int, end: float) -> None:
        found, fault, shrinking = None, "", 0.0

        @HUNTING
        @seed(number)
        @given(cases)
        def look(case: Case | Call) -> None:
            nonlocal found, fault, shrinking
            if time.monotonic() > (shrinking + SHRINK if fault else end):
                raise Enough
            now = self.send(case)
            if now and now not in self.found and now == (fault or now):
                smaller = found is None or len(case.data) <= len(found.data)
                found, fault, shrinking = case if smaller else found, now, shrinking or time.monotonic()
                raise Found(now)

        with contextlib.suppress(Enough, Found, Flaky):
            look()
        if found is not None:
            self.report(fault, found)

    def report(self, fault: str, case: Case | Call | str) -> None:
        self.found[fault] = case
        if isinstance(case, str):
            print(f"FOUND {fault}\n  {case[:600]}", flush=True)
            return
        KEPT.mkdir(parents=True, exist_ok=True)
        kept = KEPT / f"{len(self.found)}.{'grpc' if isinstance(case, Call) else 'http'}"
        kept.write_bytes(case.data)
        kept.with_suffix(".trace").write_text(self.trace.get(fault, "no traceback\n"), encoding="utf-8")
        how = f"gRPC {case.method} with the bytes of" if isinstance(case, Call) else "write to a connection"
        print(f"FOUND {fault}\n  {case.way}: {how} {kept} ({len(case.data):,} bytes)\n  {case.data[:500]!r}", flush=True)

    def described(self, program: str, number: int, end: float, folder: Path) -> None:
        """Run schemathesis on the OpenAPI description, for one model after another."""
        one, seconds = self.valid[number % len(self.valid)], max(5, round(end - time.monotonic()))
        (folder / "schemathesis.toml").write_text(f'[parameters]\nmodel = "{one.model}"\nversion = "{next(iter(one.outputs))}"\n')
        har = folder / f"{number}.har"
        command = [program, "--config-file", "schemathesis.toml", "--no-color", "run", f"http://127.0.0.1:{self.live.port}/openapi.json"]
        command += ["--exclude-path-regex", "/(un)?load$", "--checks", "not_a_server_error", "--phases", "examples,coverage,fuzzing"]
        command += ["--max-time", str(seconds), "--seed", str(number), "--continue-on-failure", "--request-timeout", "20"]
        command += ["--report", "har", "--report-har-path", str(har)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds + 120)
        if not har.exists():
            raise SystemExit(f"schemathesis did not run: {done.stdout[-1500:]}{done.stderr[-1500:]}")
        if self.live.process.poll() is not None:
            self.found.setdefault(f"the process ended with {self.live.process.returncode}", f"schemathesis with seed {number}")
            raise Ended
        refused = []
        for entry in json.loads(har.read_text(encoding="utf-8"))["log"]["entries"]:
            asked, status = entry["request"], entry["response"]["status"]
            self.statuses["schemathesis", str(status)] += 1
            if bad(str(status)):
                sent = {header["name"]: header["value"] for header in asked["headers"]}
                refused.append(
                    f"{status}: {asked['method']} {asked['url']} {sent.get('Content-Type')} {asked.get('postData', {}).get('text', '')!r}"
                )
        faults: set[str] = {*self.traces(), *(["an unexpected status"] if refused else [])}
        for fault in sorted(faults):
            if fault not in self.found:
                self.report(fault, f"schemathesis with seed {number}: {refused[0] if refused else 'only in the log'}")

    def healthy(self) -> None:
        """Check that valid requests still have correct answers."""
        for one in self.valid:
            for way, ask in {"JSON": one.in_json, "raw bytes": one.in_binary, "gRPC": None}.items():
                try:
                    version, outputs = self.answered(ask()) if ask else self.message_answered(one)
                    if not one.right(version, outputs):
                        self.found.setdefault(f"a valid request to {one.model} as {way} had a wrong answer", "after a turn")
                except (OSError, ValueError, http.client.HTTPException, grpc.RpcError) as error:
                    self.found.setdefault(f"a valid request to {one.model} as {way} failed: {error}", "after a turn")

    def answered(self, asked: bytes) -> Any:
        with socket.create_connection(("127.0.0.1", self.live.port), 30) as connection:
            connection.sendall(asked)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            if answer.status != 200:
                raise ValueError(f"{answer.status} {answer.read()[:200]!r}")
            return read_answer(answer.read(), answer.headers[LENGTH])

    def message_answered(self, one: Valid) -> Any:
        read = MESSAGES["ModelInferResponse"].FromString
        return read_message(
            self.channel.unary_unary(f"/{SERVICE}/ModelInfer", response_deserializer=read)(one.message().SerializeToString(), timeout=30)
        )


def bad(status: str) -> bool:
    """Whether a status is a finding; 503 and 504 are allowed, since the server may be overloaded."""
    return status in ("UNKNOWN", "INTERNAL", "DATA_LOSS") or (status.isdecimal() and int(status) >= 500 and status not in ("503", "504"))


def anonymous(words: str) -> str:
    """A message without numbers and addresses, which differ between runs."""
    return re.sub(r"\b[0-9a-f]{12}\b|0x[0-9a-f]+|\d+", "N", words)


def peak(live: Live, reset: bool = False) -> float:
    """Peak memory in MB since the last reset on Linux; on other systems the current memory."""
    status, reset_it = (Path(f"/proc/{live.process.pid}/{name}") for name in ("status", "clear_refs"))
    try:
        if reset:
            reset_it.write_text("5")
        return int(re.findall(r"VmHWM:\s+(\d+)", status.read_text())[0]) * 1024 / 1e6
    except (OSError, IndexError):
        return live.process.memory_info().rss / 1e6 if live.process.is_running() else 0.0


def table(fuzzer: Fuzzer, samples: Sequence[Sample]) -> Iterator[str]:
    ways = sorted({way for way, _ in fuzzer.statuses})
    for way in ways:
        counts = {status: count for (one, status), count in sorted(fuzzer.statuses.items()) if one == way}
        yield f"{way:<18} {sum(counts.values()):>8,}   {', '.join(f'{status}: {count:,}' for status, count in counts.items())}"
    yield f"{'all':<18} {fuzzer.statuses.total():>8,}   {len(fuzzer.found)} kinds of findings"
    last = samples[-1].seconds
    for share in (0.1, 0.5, 1.0):
        sample = next(one for one in samples if one.seconds >= share * last)
        yield f"at {share:>4.0%}: {sample.megabytes:7.1f} MB, {sample.threads} threads, {sample.files} open files"
    yield f"maximum: {max(one.megabytes for one in samples):7.1f} MB, {max(one.files for one in samples)} open files"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore", HypothesisWarning)  # cases are large
    program, end = os.environ.get("VERTICALS_SCHEMATHESIS", ""), time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        repository = copied(options.repository, folder / "repository")
        valid = valid_requests(repository)
        with serving(repository, folder / "log", *LIMITS) as live, sampled(live.process, 0.2) as samples:
            fuzzer = Fuzzer(live, valid)
            turns: list[Callable[[int, float], None]] = [
                lambda number, until: fuzzer.hunt(http_cases(valid), number, until),
                lambda number, until: fuzzer.hunt(rpc_cases(valid), number, until),
            ]
            if program:
                turns.append(lambda number, until: fuzzer.described(program, number, until, folder))
            else:
                print("VERTICALS_SCHEMATHESIS is not set: schemathesis is skipped.")
            numbers = itertools.count(options.seed)
            with contextlib.suppress(Ended):
                while time.monotonic() < end:
                    for turn in turns:
                        turn(next(numbers), min(end, time.monotonic() + min(TURN, options.minutes * 60 / 9)))
                        fuzzer.healthy()
        print("\n".join(table(fuzzer, samples)))
        for fault, case in fuzzer.found.items():
            print(f"FINDING {fault}: {case if isinstance(case, str) else case.way}")
    return 1 if fuzzer.found else 0


if __name__ == "__main__":
    sys.exit(main())
