"""`partita partition`: how many pieces each relaxation needs until a bound is exact, beside A(f, X)."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from ...kernels.deadline import LEAST
from ...problems.errors import BadInput
from ...relaxations.catalogue import ladder
from ...relaxations.names import parse
from ..search import clock
from .arguments import Parser, exist, say

N = TypeVar("N", int, float)


def run(argv: list[str]) -> int:
    parser = Parser("partition", "Counts the pieces each relaxation needs until a bound is exact, beside A(f, X).")
    parser.add_argument("network", metavar="NET", type=Path)
    parser.add_argument("prop", metavar="PROP", type=Path)
    parser.add_argument("--relaxations", metavar="A,B,...", default="triangle,m-1", help="names as for partita bound")
    parser.add_argument("--exactness", metavar="min|max|both|threshold", default="both", help="of the outputs")
    parser.add_argument("--outputs", metavar="Y_0,Y_3|all|rows", default="all", help="rows: those of the property")
    parser.add_argument("--threshold", metavar="T", help="with exactness=threshold; else the property is proved")
    parser.add_argument("--pieces", metavar="activation|input|polyhedral", default="activation")
    parser.add_argument(
        "--branching",
        metavar="RULE|all|optimal",
        default="all",
        help="first, last, babsr, strong; of boxes widest, sensitivity, strong",
    )
    parser.add_argument("--intervals", metavar="tight|crown", help="of pre-activations in programs (default tight)")
    parser.add_argument("--tolerance", metavar="T", default="1e-6")
    parser.add_argument("--cells", metavar="open|all", help="which patterns A counts (default open)")
    parser.add_argument("--no-count", action="store_true", help="leave A(f, X) out")
    parser.add_argument("--convex", action="store_true", help="also pieces on which P_1 is exact (proposition 5.3)")
    parser.add_argument("--case", metavar="K", help="which of the property's input sets, from 0 on")
    parser.add_argument("--timeout", metavar="S", help="seconds in all")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument("--out", metavar="DIR", type=Path, help="where tables.json and the pictures go")
    options = parser.parse_args(argv)
    names = relaxation_list(options.relaxations)
    programs = any(part.rung.kind == "program" for name in names for part in parse(name))
    if options.cells is not None and options.no_count:
        raise BadInput("--cells has no effect with --no-count: it says which patterns A(f, X) counts")
    if options.intervals is not None and not programs:
        acts = ", ".join(ladder("program"))
        raise BadInput(f"--intervals has no effect here: it acts with {acts}; the others find their own intervals")
    threshold = _number("threshold", options.threshold, float)
    tolerance = _number("tolerance", options.tolerance, float)
    timeout, case = _number("timeout", options.timeout, float), _number("case", options.case, int)
    assert tolerance is not None, "it has a default"
    exist(options.network, options.prop)
    if options.out is not None and options.out.exists() and not options.out.is_dir():
        raise BadInput(f"--out {options.out} is a file, not a folder")
    from ..comparing.comparison import dumped, text
    from ..comparing.partition import INTERRUPTED, partition

    end = clock.deadline(timeout)  # which counts from the process's start
    if end is not None:
        timeout = max(LEAST, end - time.monotonic())
    found = partition(
        options.network,
        options.prop,
        names,
        exactness=options.exactness,
        outputs=options.outputs,
        pieces=options.pieces,
        branching=options.branching,
        intervals=options.intervals or "tight",
        cells=options.cells or "open",
        count=not options.no_count,
        convex=options.convex,
        progress=say,
        threshold=threshold,
        tolerance=tolerance,
        timeout=timeout,
        case=case,
    )
    print(dumped(found) if options.json else text(found))
    if options.out is not None:
        from ..comparing.pictures import write

        write(found, options.out)
    return 130 if INTERRUPTED in found.notes else 0


def relaxation_list(text: str) -> list[str]:
    """The names in `a,b:k=2,groups=all,c`: commas part names, and the options of one name."""
    names: list[str] = []
    for part in text.split(","):
        if names and re.match(r"\s*[a-z]+=", part) and ":" in names[-1]:
            names[-1] += f",{part.strip()}"
        else:
            names.append(part.strip())
    return names


def _number(key: str, text: str | None, kind: Callable[[str], N]) -> N | None:
    """An option's value."""
    if text is None:
        return None
    with suppress(ValueError, OverflowError):
        value = kind(text)
        if math.isfinite(value) and (value > 0 or key not in ("tolerance", "timeout")):
            return value
    raise BadInput(f"--{key} must be a number, positive for tolerance and timeout, not '{text}'")
