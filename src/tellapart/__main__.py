"""`python -m tellapart` is the command."""

from tellapart.cli.main import main

main()
