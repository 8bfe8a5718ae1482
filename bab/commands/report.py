"""`partita report`: what a command left in a folder, as one page of HTML that stands alone."""

from __future__ import annotations

from pathlib import Path

from ..ending.results import check_writable, write_atomically
from ..ending.streams import of_descriptor
from .arguments import Parser


def run(argv: list[str]) -> int:
    parser = Parser("report", "Turns a partition log, a benchmark run, a study or a measured partition into one page.")
    parser.add_argument("folder", metavar="DIR", type=Path, help="what --log or --out named")
    parser.add_argument("--out", metavar="FILE", type=Path, help="the page (default DIR/report.html)")
    options = parser.parse_args(argv)
    target = options.out or options.folder / "report.html"
    from ..pages.report import report

    text = report(options.folder)
    check_writable(target)
    write_atomically(target, text)
    if of_descriptor(target) is None:
        print(target)
    return 0
