"""`python -m partita`."""

from .bab.cli import main

main()
