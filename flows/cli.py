"""What `python -m flows.VERTICAL` does: the command line of one flow."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from flows.command.run import run_or_help
from flows.command.settings import flow_name, read_flow


def main(flow: Any) -> NoReturn:
    """Run a Prefect flow from the command line: `[DATA] --preset NAME --refresh STEP --json` and every setting of its signature."""
    name = flow_name(flow)
    run_or_help(read_flow(name), f"python -m flows.{name}", sys.argv[1:], lambda: flow)


def main_of(flow: Any) -> NoReturn:
    """The same for the flow that takes any use case, whose name among the entry points comes first on the command line."""
    from tasks.contract.plugins import entry_points

    name, known = sys.argv[1] if len(sys.argv) > 1 else "", entry_points()
    if name not in known:
        print(
            f"\nThere is no use case {name!r}. There are: {', '.join(sorted(known))}. Name one: python -m flows.usecase NAME",
            file=sys.stderr,
        )
        sys.exit(2)
    run_or_help(read_flow(flow_name(flow), known[name].load()), f"python -m flows.usecase {name}", sys.argv[2:], lambda: flow)
