"""`partita count`: the number of activation patterns on a property's input set."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from ...problems.errors import BadInput
from ..ending.streams import LOST
from ..search.clock import deadline
from .arguments import Parser, exist, say

PERIOD = 5.0  # seconds between two lines on long work


def run(argv: list[str]) -> int:
    parser = Parser("count", "Counts the activation patterns on a property's input set: N, or LOW..HIGH.")
    parser.add_argument("items", nargs="*", metavar="NET PROP")
    parser.add_argument("--cells", choices=("open", "all"), default="open", help="with an interior (default), or all")
    parser.add_argument("--timeout", type=float, metavar="S", help="seconds after which an interval is printed")
    parser.add_argument("--out", type=Path, metavar="DIR", help="a folder that gets cells.parquet")
    parser.add_argument("--rational", action="store_true", help="exact arithmetic alone, for small networks")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the number")
    options = parser.parse_intermixed_args(argv)
    if len(options.items) != 2:
        raise BadInput("a network and a property are needed; see partita count --help")
    if options.timeout is not None and not options.timeout > 0:
        raise BadInput(f"--timeout takes a positive number of seconds, not {options.timeout}")
    network, prop = (Path(item) for item in options.items)
    exist(network, prop)
    ends = deadline(options.timeout)
    from contextlib import ExitStack

    from ..counting.patterns import count_union, read
    from ..counting.search import Listener

    graph, polytopes = read(network, prop, ends)
    with ExitStack() as stack:
        emit = cells = None
        if options.out is not None:
            from ..counting.cells import CellWriter

            cells = stack.enter_context(CellWriter(options.out))
            emit = cells.write
        result = count_union(
            graph,
            polytopes,
            cells=options.cells,
            deadline=ends,
            rational=options.rational,
            listener=Listener(emit, _Progress()),
        )
    print(_json(result) if options.json else result, flush=True)
    _report(result)
    if cells is not None and cells.failure:
        say(cells.failure)
        return LOST
    return 130 if result.interrupted else 0


class _Progress:
    """A line on standard error every few seconds."""

    def __init__(self) -> None:
        self.next = time.monotonic() + PERIOD

    def __call__(self, found: int, waiting: int, seconds: float) -> None:
        if time.monotonic() >= self.next:
            self.next = time.monotonic() + PERIOD
            print(f"c {seconds:10.1f} s {found:12d} found {waiting:12d} under way", file=sys.stderr, flush=True)


def _report(result) -> None:
    if result.layers and any(result.layers):
        print(f"c cells after each layer: {' '.join(map(str, result.layers))}", file=sys.stderr)
    print(f"c {result.seconds:.2f} s, {result.rate:.0f} cells per s, cells {result.cells}", file=sys.stderr)
    if result.doubtful:
        print(f"c {result.doubtful} cells are doubtful", file=sys.stderr)
    say(result.reason)


def _json(result) -> str:
    import json

    fields = ("low", "high", "finished", "seconds", "reason", "cells", "doubtful", "rational", "layers")
    return json.dumps({name: getattr(result, name) for name in fields} | {"rate": result.rate})
