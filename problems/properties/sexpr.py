"""S-expressions, folded as they are read: the grammar under SMT-LIB and VNN-LIB.

A file is a sequence of commands `(head argument ...)`. Arguments are words, nested lists, strings `"..."` (in which
`""` stands for one quote) and quoted names `|...|`; `;` starts a comment that ends with the line, but not within a
string or quoted name. White space is ASCII. Instead of building trees first and walking them later, `fold` hands
every list to a function at the moment it closes, innermost first, with its inner lists already replaced by what the
function returned for them. So no recursion limits the nesting, and a file of 10 MB never exists as a tree.

Only what the reader needs of the grammar is here; what the words mean is the readers' business. Soundness: exact.
Source: Barrett, Fontaine, Tinelli, "The SMT-LIB Standard", version 2.6, section 3.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ...kernels.deadline import check
from ..errors import BadInput
from .decimals import shortened

_QUOTED = r'"[^"]*"(?:"[^"]*")*|\|[^|]*\|'
_COMMENT = re.compile(r";[^\n\r]*")
_QUOTED_OR_COMMENT = re.compile(rf"{_QUOTED}|;[^\n\r]*")
_PLAIN = re.compile(r"[()]|[^\s()]+", re.ASCII)
_TOKEN = re.compile(rf'[()]|{_QUOTED}|[^\s()"|]+|["|]', re.ASCII)


def is_plain(text: str) -> bool:
    """Whether there is neither a string nor a quoted name in the text."""
    return '"' not in text and "|" not in text


def without_comments(text: str) -> str:
    """The text with every comment removed; line breaks stay, so that lines keep their numbers."""
    if ";" not in text:
        return text
    if is_plain(text):
        return _COMMENT.sub("", text)
    return _QUOTED_OR_COMMENT.sub(lambda match: "" if match[0][0] == ";" else match[0], text)


def tokens(text: str) -> list[str]:
    """The brackets, words, strings and quoted names of a text free of comments, as they are written.

    A quote that is never closed is a token of one character.
    """
    return (_PLAIN if is_plain(text) else _TOKEN).findall(text)


def fold(text: str, combine: Callable[[list], Any], command: Callable[[list], None], where: str) -> None:
    """Reads `text`, free of comments: `combine` reduces inner lists, `command` receives each outermost list.

    A list arrives as its items: words, strings and quoted names as `str`, inner lists as whatever `combine` returned.
    Raises `BadInput` for unbalanced brackets and quotes, and puts the line in front of the text of any `BadInput` that
    the two functions raise.
    """
    stack: list[list] = []
    items: list | None = None
    read = 0
    try:
        for read, token in enumerate(tokens(text)):
            if not read & 4095:
                check()
            if token == "(":
                if items is not None:
                    stack.append(items)
                items = []
            elif token == ")" and items is not None:
                if stack:
                    value = combine(items)
                    items = stack.pop()
                    items.append(value)
                else:
                    command(items)
                    items = None
            elif token in _OPEN:
                raise BadInput(f"the {_OPEN[token]} that begins here is never closed")
            elif items is None:
                raise BadInput(f"'{shortened(token)}' stands outside of any brackets")
            else:
                items.append(token)
        if items is not None:
            raise BadInput("the file ends inside an open bracket; it may be truncated")
    except BadInput as error:
        raise BadInput(f"{where}, line {_line(text, read)}: {error}") from None


_OPEN = {'"': "string", "|": "quoted name"}


def _line(text: str, position: int) -> int:
    """The line of token number `position`."""
    pattern = _PLAIN if is_plain(text) else _TOKEN
    for index, match in enumerate(pattern.finditer(text)):
        if index == position:
            return text.count("\n", 0, match.start()) + 1
    return 1
