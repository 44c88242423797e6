"""`python -m tasks.serving predict BUNDLE FILE [FILE ...]`: answers on the command line, without torch."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tasks.errors import UserError
from tasks.serving.bundle import open_bundle

BAR = 24


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tasks.serving", description="Answer requests from a bundle.")
    commands = parser.add_subparsers(dest="command", required=True)
    predict = commands.add_parser("predict", help="answer one or more requests given as files")
    predict.add_argument("bundle", type=Path, help="folder of the bundle")
    predict.add_argument("requests", nargs="+", metavar="FILE", help="what the vertical takes: an image, a text, ...")
    predict.add_argument("--json", action="store_true", help="one line of JSON per request")
    arguments = parser.parse_args()
    try:
        answers = _answers(arguments.bundle, arguments.requests)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    for request, answer in zip(arguments.requests, answers, strict=True):
        print(json.dumps(answer, ensure_ascii=False) if arguments.json else _readable(request, answer))
    return 0


def _answers(folder: Path, requests: list[str]) -> list[dict[str, Any]]:
    bundle = open_bundle(folder)
    return bundle.answer([bundle.codec.read(request) for request in requests])


def _readable(request: str, answer: dict[str, Any]) -> str:
    lines = [f"{request}: {answer.get('label', json.dumps(answer, ensure_ascii=False))}"]
    for row in answer.get("top", []):
        lines.append(f"  {row['probability']:7.2%}  {'█' * round(row['probability'] * BAR):<{BAR}}  {row['label']}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
