"""S-expressions, folded as they are read: the grammar under SMT-LIB and VNN-LIB.

A file is a sequence of commands `(head argument ...)`; arguments are words or nested lists; `;` starts a comment.
Instead of building trees first and walking them later, `fold` hands every list to a function at the moment it
closes, innermost first, with its inner lists already replaced by what the function returned for them. So no
recursion limits the nesting, and a file of 10 MB never exists as a tree of small lists.

Only what the reader needs of the grammar is here; what the words mean is `vnnlib`'s business. Soundness: exact.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .errors import BadInput

COMMENT = re.compile(r";[^\n]*")
TOKEN = re.compile(r"[()]|[^\s()]+")


def without_comments(text: str) -> str:
    """The text with every comment removed; line breaks stay, so that lines keep their numbers."""
    return COMMENT.sub("", text) if ";" in text else text


def fold(text: str, combine: Callable[[list], Any], command: Callable[[list], None], where: str) -> None:
    """Reads `text`, free of comments: `combine` reduces inner lists, `command` receives each outermost list.

    A list arrives as its items: words as `str`, inner lists as whatever `combine` returned. Raises `BadInput` for
    unbalanced brackets, and puts the line in front of the text of any `BadInput` that the two functions raise.
    """
    stack: list[list] = []
    items: list | None = None
    read = 0
    try:
        for read, token in enumerate(TOKEN.findall(text)):  # noqa: B007 (errors are located by it)
            if token == "(":
                if items is not None:
                    stack.append(items)
                items = []
            elif items is None:
                raise BadInput(f"'{token}' stands outside of any brackets")
            elif token != ")":
                items.append(token)
            elif stack:
                value = combine(items)
                items = stack.pop()
                items.append(value)
            else:
                command(items)
                items = None
        if items is not None:
            raise BadInput("the file ends inside an open bracket; it may be truncated")
    except BadInput as error:
        raise BadInput(f"{where}, line {_line(text, read)}: {error}") from None


def _line(text: str, position: int) -> int:
    """The line of token number `position`."""
    for index, match in enumerate(TOKEN.finditer(text)):
        if index == position:
            return text.count("\n", 0, match.start()) + 1
    return 1
