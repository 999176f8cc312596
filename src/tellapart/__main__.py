"""`python -m tellapart` is the command."""

from tellapart.cli.start import main

main()
