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
    predict.add_argument("--explain", action="store_true", help="say why, too, where the vertical can")
    predict.add_argument("--json", action="store_true", help="one line of JSON per request")
    arguments = parser.parse_args()
    try:
        answers = _answers(arguments.bundle, arguments.requests, arguments.explain)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    for request, answer in zip(arguments.requests, answers, strict=True):
        print(json.dumps(answer, ensure_ascii=False) if arguments.json else _readable(request, answer))
    return 0


def _answers(folder: Path, arguments: list[str], explain: bool) -> list[dict[str, Any]]:
    bundle = open_bundle(folder)
    requests = [bundle.codec.read(argument) for argument in arguments]
    answers = bundle.answer(requests)
    return [{**a, "explanation": bundle.explain(r)} for a, r in zip(answers, requests, strict=True)] if explain else answers


def _readable(request: str, answer: dict[str, Any]) -> str:
    if "items" in answer:
        lines = [f"{request}:", *(f"  {row['score']:9.4f}  {row['item']:<12}  {row.get('title', '')}" for row in answer["items"])]
    elif "trusted" in answer:
        verdict = "trusted" if answer["trusted"] else "not to be trusted: " + "; ".join(answer["doubts"])
        lines = [f"{request}: {verdict}", *(f"  {share:7.2%}  {name}" for name, share in answer.get("shares", {}).items())]
        lines += [f"  {box['score']:7.2%}  {box['label']:<12}  {box['box']}" for box in answer.get("boxes", [])]
        lines += [f"  {probability:7.2%}  {kind}" for kind, probability in answer.get("signals", {}).items()]
        lines += [
            f"  {answer[name]:+.3f} ± {answer[name + '_deviation']:.3f}  {name}" for name in ("steering", "throttle") if name in answer
        ]
        if "advice" in answer:
            lines.append("  advice: " + ": ".join(filter(None, [answer["advice"]["action"], ", ".join(answer["advice"]["reasons"])])))
    elif "entities" in answer:
        lines = [f"{request}:", *(f"  {row['probability']:7.2%}  {row['label']:<12}  {row['text']}" for row in answer["entities"])]
    else:
        lines = [f"{request}: {answer.get('label', json.dumps(answer, ensure_ascii=False))}"]
    for row in answer.get("top", []):
        lines.append(f"  {row['probability']:7.2%}  {'█' * round(row['probability'] * BAR):<{BAR}}  {row['label']}")
    if "explanation" in answer:
        told = {name: _without_pictures(value) for name, value in answer["explanation"].items()}
        lines.append(f"  because: {json.dumps(told, ensure_ascii=False)}")
    return "\n".join(lines)


def _without_pictures(value: object) -> object:
    if isinstance(value, str) and value.startswith("data:image/"):
        return f"a picture of {len(value):,} characters, which --json shows"
    return value


if __name__ == "__main__":
    sys.exit(main())
