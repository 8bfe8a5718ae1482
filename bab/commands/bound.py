"""`partita bound`: bounds of every output, from both sides."""

from __future__ import annotations

from ...problems.errors import BadInput
from ...relaxations.catalogue import ladder
from ..config import keys_of, load_config
from .arguments import CHOICES, Parser, add_choices, exist, files, overrides, say


def run(argv: list[str]) -> int:
    parser = Parser("bound", "Bounds every output over the property's input set, from both sides.")
    parser.add_argument("items", nargs="*", metavar="NET PROP [KEY=VALUE ...]")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    add_choices(parser)
    options = parser.parse_intermixed_args(argv)
    if options.relaxation is None:
        raise BadInput(f"--relaxation is missing; name one of {', '.join(ladder())}")
    network, prop, pairs = files(options.items, None)
    given = overrides(options, pairs, CHOICES)
    config = load_config(options.config, given)
    exist(network, prop)
    from ..effects import heed_bound
    from .bound_report import bound_report

    for sentence in heed_bound(keys_of(given), config):
        say(sentence)
    print(bound_report(network, prop, config, options.json))
    return 0
