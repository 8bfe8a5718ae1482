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


SAID = (  # by allocators that raise a plain RuntimeError, and the loader of libraries
    "out of memory",
    "outofmemory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "failed to allocate memory",
    "alloc_failed",
    "allocation_failed",
    "bad_alloc",
    "bad allocation",
    "can't start new thread",
    "failed to map segment",
)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: Python's own, those of PyTorch's allocators, CUDA's libraries and
    onnxruntime, which raise RuntimeErrors, and the loader's where a library does not fit."""
    text = f"{type(error).__name__}: {error}".lower()
    return isinstance(error, MemoryError) or any(said in text for said in SAID)
