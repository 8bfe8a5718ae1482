"""The two errors whose text is meant for the user: input that is refused, and Partita's own contradictions."""


class BadInput(ValueError):
    """Input that Partita refuses. Its text is one sentence for the user; the command line exits with code 2."""


class InternalError(Exception):
    """Partita contradicts itself: nothing it says of this problem may be believed. The command line exits with 70."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"internal error: {found}; this is a fault of Partita and not of the input, please report it with the "
            "network and the property"
        )
