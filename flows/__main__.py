"""`python -m flows` is the command `verticals`, also where the project is not installed."""

from flows.command import main

main()
