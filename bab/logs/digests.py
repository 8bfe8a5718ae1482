"""The chain of digests beside a log's parts: what the runs that held the lock wrote, a line a file, in order.

    header.json 2c26b46b...            SHA-256 of the header
    pieces-00000.parquet 8f43...       SHA-256 of the line's digest before, in hexadecimal digits, and the part

A line is written before its file is renamed to its own name, so a run that was killed leaves at most one line without
a file, the last. The chain shows what became of a log by accident, by a disk or by an editor: a part that is not what
was written differs from its line, and no part can change its place. It is no signature: whoever can write to the
folder can compute it anew, which is why a claim is believed only where the user says so (`believed`).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..ending.results import write_atomically
from .format import DIGESTS, HEADER, MOST_PARTS, read_bytes

LINE = re.compile(rf"({re.escape(HEADER)}|pieces-\d{{5,7}}\.parquet) ([0-9a-f]{{64}})")


@dataclass(eq=False)
class Digests:
    """The lines, as they stand in the file: name and digest."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    damage: str = ""  # a sentence, where a line is none

    @staticmethod
    def read(folder: Path) -> Digests | None:
        """What the file says; None where there is none."""
        if not (folder / DIGESTS).exists():
            return None
        text = read_bytes(folder / DIGESTS, "list of digests", 128 * MOST_PARTS).decode("utf-8", "replace")
        *whole, _ = text.split("\n")  # a rest without an end is what a full disk or a kill leaves
        found = Digests()
        for number, line in enumerate(whole):
            match = LINE.fullmatch(line)
            if match is None:
                found.damage = f"{DIGESTS}, line {number + 1}, is no name and digest"
                break
            found.lines.append((match[1], match[2]))
        return found

    @property
    def last(self) -> str:
        return self.lines[-1][1] if self.lines else ""

    def header(self, content: bytes) -> bool:
        """Whether this is a header that was written."""
        return (HEADER, hashlib.sha256(content).hexdigest()) in self.lines

    def vouches(self, name: str, content: bytes) -> bool:
        """Whether a part is what its line says, after the line before it."""
        at = self._places.get(name)
        return at is not None and self.lines[at][1] == chained(self.lines[at - 1][1], content)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: at for at, (name, _) in enumerate(self.lines) if at > 0}

    # ---- writing, under the lock

    def begin(self, folder: Path, header: bytes) -> None:
        """A header that is about to be written, alone or after earlier ones."""
        self.lines.append((HEADER, hashlib.sha256(header).hexdigest()))
        self.write(folder)

    def write(self, folder: Path) -> None:
        """The file anew."""
        write_atomically(folder / DIGESTS, "".join(f"{name} {digest}\n" for name, digest in self.lines))

    def add(self, folder: Path, name: str, content: bytes) -> None:
        """One line more, for a part that is about to get its name."""
        line = name, chained(self.last, content)
        with open(folder / DIGESTS, "a", encoding="utf-8") as file:
            file.write(" ".join(line) + "\n")
        self.lines.append(line)

    def kept(self, names: set[str]) -> Digests:
        """The headers' lines and those of these parts."""
        return Digests([line for line in self.lines if line[0] == HEADER or line[0] in names])


def chained(before: str, content: bytes) -> str:
    """The digest of a part, after the digest `before`."""
    return hashlib.sha256(before.encode() + content).hexdigest()
