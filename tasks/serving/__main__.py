"""`python -m tasks.serving REPOSITORY` serves models; its other commands are `predict`, `score`, `publish` and `key`. Imports no torch."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from tasks.contract.blocks import AnswerBlock
from tasks.contract.errors import SettingError, UserError
from tasks.reporting.terminal_blocks import terminal_lines
from tasks.serving.bundle import open_bundle
from tasks.serving.guard import ALL, new_key
from tasks.serving.publishing import publish
from tasks.serving.released import find_bundle
from tasks.serving.scoring import find_requests, score
from tasks.serving.settings import Serving

PROG = "python -m tasks.serving"
MODEL = "a released model by its NAME or NAME/VERSION, the id of a run, last, or a folder of a bundle"


def main(arguments: Sequence[str] = sys.argv[1:], prog: str = PROG) -> int:
    """Run a command and return its exit status: 0, or 2 after a user's mistake, which is printed.

    Args:
        arguments: of the command line.
        prog: what help calls the program.
    """
    commands: dict[str, Callable[[Sequence[str], str], int]] = {
        "predict": _predict,
        "explain": partial(_predict, explaining=True),
        "score": _score,
        "publish": _publish,
        "key": _key,
    }
    try:
        if arguments and arguments[0] in commands:
            return commands[arguments[0]](arguments[1:], prog)
        return _serve(arguments, prog)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


def _serve(arguments: Sequence[str], prog: str) -> int:
    parser = argparse.ArgumentParser(
        prog=prog if prog == PROG else f"{prog} serve",
        description="Serve models by the Open Inference Protocol, and with the requests and answers of their verticals.",
        epilog="Other commands: predict BUNDLE FILE, score BUNDLE SOURCE OUT, publish BUNDLE REPOSITORY, key NAME; each has its own --help.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("repository", type=Path, metavar="REPOSITORY", help="folder of a bundle, or a folder of NAME/VERSION/ bundles")
    for name, field in Serving.model_fields.items():
        parser.add_argument(f"--{name}", type=type(field.default), default=field.default, help=field.description)
    given = vars(parser.parse_args(arguments))
    repository = given.pop("repository")
    try:
        settings = Serving(**given)
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingError(f"--{first['loc'][0]} {first['input']}: {first['msg']}.") from None
    from tasks.serving.server import serve

    return serve(repository, settings)


def _predict(arguments: Sequence[str], prog: str, explaining: bool = False) -> int:
    name = "explain" if explaining else "predict"
    parser = argparse.ArgumentParser(
        prog=f"{prog} {name}", description="Predict for requests" + (", with explanations." if explaining else ".")
    )
    parser.add_argument("bundle", metavar="MODEL", help=MODEL)
    parser.add_argument(
        "requests", nargs="+", metavar="REQUEST", help="an image file, a file with a text or JSON, or the text or JSON itself"
    )
    parser.add_argument("--explain", action="store_true", default=explaining, help="add an explanation, if the model supports explanations")
    parser.add_argument("--json", action="store_true", help="print one line of JSON per request")
    given = parser.parse_args(arguments)
    bundle = open_bundle(find_bundle(given.bundle))
    requests = [bundle.codec.read(argument) for argument in given.requests]
    answers = bundle.answer(requests)
    if given.explain:
        answers = [{**answer, "explanation": bundle.explain(request)} for answer, request in zip(answers, requests, strict=True)]
    for name, request, answer in zip(given.requests, requests, answers, strict=True):
        if given.json:
            print(json.dumps(answer, ensure_ascii=False))
        else:
            show(name, bundle.blocks(request, answer))
    return 0


def show(name: str, blocks: Sequence[AnswerBlock]) -> None:
    """Print the answer to a request: the blocks of its codec, below the request's name."""
    console = Console(highlight=False)
    console.print(Text(f"{name}:", "dim"), soft_wrap=True)
    for line in (line for block in blocks for line in terminal_lines(block)):
        console.print(Text.assemble("  ", line), soft_wrap=True)


def _score(arguments: Sequence[str], prog: str) -> int:
    parser = argparse.ArgumentParser(prog=f"{prog} score", description="Predict for many requests; writes one line of JSON per request.")
    parser.add_argument("bundle", metavar="MODEL", help=MODEL)
    parser.add_argument("source", type=Path, help="a folder with one file per request, or a .jsonl or .txt file with one request per line")
    parser.add_argument("out", type=Path, help="file to write, such as answers.jsonl")
    parser.add_argument("--batch", type=int, default=32, help="requests per batch (default: 32)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: 0, all cores that are available to this process)")
    given = parser.parse_args(arguments)
    bundle = open_bundle(find_bundle(given.bundle), given.threads)
    requests = find_requests(given.source, bundle)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("score", total=len(requests))
        print(score(bundle, requests, given.out, max(1, given.batch), lambda count: bar.advance(task, count)))
    return 0


def _publish(arguments: Sequence[str], prog: str) -> int:
    parser = argparse.ArgumentParser(prog=f"{prog} publish", description="Publish a bundle as the next version of a model.")
    parser.add_argument("bundle", metavar="MODEL", help=MODEL)
    parser.add_argument("repository", type=Path, help="folder that a server serves; created if it does not exist")
    parser.add_argument("--name", default="", help="name of the model (default: the name of its vertical)")
    given = parser.parse_args(arguments)
    print(publish(find_bundle(given.bundle), given.repository, given.name))
    return 0


def _key(arguments: Sequence[str], prog: str) -> int:
    parser = argparse.ArgumentParser(prog=f"{prog} key", description="Create an API key.")
    parser.add_argument("name", help="name of the client that will use the key")
    parser.add_argument(
        "--models", default=ALL, help="models that the key gives access to, separated by commas (default: all models and the repository)"
    )
    given = parser.parse_args(arguments)
    key, line = new_key(given.name, given.models)
    print(f"Key for {given.name}, shown only once: {key}\nLine for the file that --keys names: {line}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
