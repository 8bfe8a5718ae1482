"""`partita check`: a partition log on its own, beside its network and property, and proved again."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ...problems.errors import BadInput
from .arguments import Parser, exist, say

POINTS = 1000


def run(argv: list[str]) -> int:
    parser = Parser(
        "check",
        "Checks a partition log: that its leaves cover the input set and their interiors do not meet; with a network "
        "and a property, that it is theirs, and random points; with --replay, every closed leaf by a new bound. "
        "Prints good or bad; exit code 1 for bad.",
    )
    parser.add_argument("items", nargs="+", metavar="DIR [NET PROP]")
    parser.add_argument("--replay", action="store_true", help="bound every closed leaf again")
    parser.add_argument("--timeout", metavar="S", help="seconds that the replay may take")
    parser.add_argument("--points", metavar="N", type=int, help=f"random points to ask (default {POINTS})")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    options = parser.parse_args(argv)
    if len(options.items) not in (1, 3):
        raise BadInput("partita check takes DIR, or DIR NET PROP; see partita check --help")
    if options.timeout is not None and not options.replay:
        raise BadInput("--timeout has no effect here: it acts with --replay, which is what may take long")
    if options.points is None:
        options.points = POINTS
    elif len(options.items) == 1 and not options.replay:
        raise BadInput("--points has no effect here: it acts where a network is asked, with NET PROP or --replay")
    if options.points < 0:
        raise BadInput(f"--points is a whole number of at least 0, not {options.points}")
    return _checked(options)


def _checked(options: argparse.Namespace) -> int:
    folder = Path(options.items[0])
    if len(options.items) == 3:
        exist(Path(options.items[1]), Path(options.items[2]))
    from ...problems.load import load_problem
    from ..logs.check import check, sampled
    from ..logs.header import matching, paths_of
    from ..logs.read import read_log

    partition = read_log(folder)
    for note in partition.notes:
        say(note)
    report = check(partition)
    faults, facts = list(report.faults), dict(report.facts)
    if len(options.items) == 3 or options.replay:
        network, prop = options.items[1:] or map(str, paths_of(partition.header, folder))
        graph, read, *_ = load_problem(network, prop)
        matching(partition.header, folder, network, graph, read)
        more = sampled(partition, graph, read, options.points)
        faults, facts = faults + more.faults, facts | more.facts
        if options.replay and not faults:
            facts |= _replayed(partition, network, prop, options.timeout, faults)
    if not options.replay and len(partition.closed):
        facts["not known"] = f"whether {len(partition.closed)} closed leaves are proved: --replay bounds them again"
    _say(options.json, faults, facts)
    return 1 if faults else 0


def _replayed(partition: Any, network: str, prop: str, timeout: str | None, faults: list[str]) -> dict[str, Any]:
    from ..config import load_config
    from ..replay import replay

    limit = load_config(None, [] if timeout is None else [f"timeout={timeout}"]).timeout
    found = replay(partition, network, prop, timeout=limit)
    if not found.good:
        faults.append(f"{found.open} of {found.leaves} closed leaves were not closed again: {found.reason}")
    return {
        "closed again": found.again,
        "closed with a piece above": found.above,
        "closed after further splits": found.further,
        "replay s": round(found.seconds, 2),
    }


def _say(as_json: bool, faults: list[str], facts: dict[str, Any]) -> None:
    if as_json:
        print(json.dumps({"good": not faults, "faults": faults, **facts}))
        return
    print("bad" if faults else "good")
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")
    for fault in faults:
        say(fault)
