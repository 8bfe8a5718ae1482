"""The one error that bad input raises: a sentence that says what is wrong, where, and what to do."""


class BadInput(ValueError):
    """Input that Partita refuses. Its text is one sentence for the user; the command line exits with code 2."""
