"""`python -m partita.bab`, the same as `python -m partita`."""

from .cli import main

main()
