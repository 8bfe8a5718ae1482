"""`python -m partita`."""

from .bab.commands.main import main

main()
