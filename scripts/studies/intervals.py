"""Which pre-activation intervals a bound is drawn over, the same in every study.

A relaxation is not one number but one for each choice of intervals. Here linear programs take *tightened* ones: layer
by layer, two programs for each undecided neuron over everything that the relaxation says of the layers before. Of
single-neuron relaxations Triangle over these is the most precise. Where CROWN's intervals are taken instead, which is
what a verifier does to save time, a column says so. Batched relaxations (ibp, deeppoly, crown, alpha-crown) find their
own; measured trees tighten anew on every piece.
"""

from __future__ import annotations

OWN = ("ibp", "deeppoly-0", "deeppoly-1", "crown", "alpha-crown", "exact")
TIGHTENED = (
    "Intervals of pre-activations: linear programs tighten them layer by layer; ibp, deeppoly, crown and alpha-crown "
    "find their own."
)


def tightened(name: str) -> str:
    """A relaxation's name with tightened intervals, if it is a linear program."""
    if name.split(":")[0] in OWN:
        return name
    return f"{name}{',' if ':' in name else ':'}tighten=on"
