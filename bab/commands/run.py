"""`partita run`: all instances of a benchmark."""

from __future__ import annotations

from pathlib import Path

from ...problems.errors import BadInput
from ..config import load_config
from .arguments import CHOICES, Parser, add_choices, overrides


def run(argv: list[str]) -> int:
    parser = Parser("run", "Verifies all instances of a benchmark; started again, it goes on where it was stopped.")
    parser.add_argument("instances", metavar="INSTANCES.csv", type=Path)
    parser.add_argument("pairs", nargs="*", metavar="KEY=VALUE")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="where results.csv, witnesses and logs go"
    )
    parser.add_argument("--timeout", metavar="S", help="seconds; caps the instances' own limits")
    parser.add_argument("--log", action="store_true", help="write each instance's partition to DIR/partitions")
    parser.add_argument("--jobs", metavar="N", default="1", help="instances at a time")
    add_choices(parser)
    options = parser.parse_intermixed_args(argv)
    config = load_config(options.config, overrides(options, options.pairs, (*CHOICES, "timeout")))
    if not options.jobs.isdigit() or int(options.jobs) < 1:
        raise BadInput(f"--jobs must be a whole number of at least 1, not '{options.jobs}'")
    from ..running.instances import Manner, run_instances

    choices = overrides(options, options.pairs, CHOICES)
    if options.config is not None:
        choices = ["--config", options.config, *choices]
    return run_instances(
        options.instances, options.out, config.timeout, Manner(int(options.jobs), choices, options.log)
    )
