"""What `partita run` shows: a progress bar on a terminal, plain lines elsewhere, and a closing table.

Everything on the way goes to standard error, so that standard output holds the table alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import TextIO

from .row import ANSWERS, Row


def line_of(row: Row, total: int) -> str:
    """One instance in one line."""
    expected = f" (WRONG: expected {row.expected})" if row.wrong else ""
    reason = f"  {row.reason}" if row.reason and not row.solved else ""
    name = f"{row.network} {row.property}"
    return f"[{row.number}/{total}] {row.verdict}{expected}  {row.seconds:.2f} s  {row.pieces} pieces  {name}{reason}"


@contextmanager
def progress(total: int, done: int, stream: TextIO) -> Iterator[Callable[[Row], None]]:
    """A function to call with each row as it ends."""
    if done:
        print(f"{done} of {total} instances are finished already", file=stream)
    if not stream.isatty():
        yield lambda row: print(line_of(row, total), file=stream, flush=True)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(file=stream)) as bar:
        task = bar.add_task("", total=total, completed=done)

        def show(row: Row) -> None:
            style = "bold red" if row.wrong else "yellow" if row.verdict == "error" else None
            bar.console.print(line_of(row, total), style=style, markup=False, highlight=False)
            bar.update(task, advance=1)

        yield show


def closing_table(rows: Sequence[Row], total: int) -> str:
    """The run in figures, with every wrong verdict by name."""
    counts = Counter(row.verdict for row in rows)
    solved, wrong = [row for row in rows if row.solved], [row for row in rows if row.wrong]
    seconds = [row.seconds for row in rows]
    others = ", ".join(f"{counts[v]} {v}" for v in ("unknown", "timeout", "error") if counts[v])
    figures = [
        ("instances", f"{len(rows)} of {total} run"),
        ("solved", f"{len(solved)} ({counts['unsat']} unsat, {counts['sat']} sat)"),
        ("not solved", f"{len(rows) - len(solved)}" + (f" ({others})" if others else "")),
        ("wrong", f"{len(wrong)} of {sum(row.expected in ANSWERS for row in rows)} with an expected verdict"),
        ("median time", f"{median(seconds) if seconds else 0:.2f} s"),
        ("total time", f"{sum(seconds):.2f} s"),
        ("pieces", f"{sum(row.pieces for row in rows):,}"),
    ]
    width = max(len(name) for name, _ in figures)
    lines = [f"{name:<{width}}  {figure}" for name, figure in figures]
    lines += [line_of(row, total) for row in wrong]
    return "\n".join(lines)
