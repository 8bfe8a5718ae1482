"""`python -m partita.bab`, the same as `python -m partita`."""

from .commands.main import main

main()
