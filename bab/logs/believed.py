"""What a run may say that was taken up from a log: `unsat` only of what it proved, or what the user trusts.

A resumed search starts from the pieces that the log leaves open; where it closes them all, the verdict still rests on
those that the log calls closed. They come last, because a witness makes them unimportant, and because a short run
should get on with what is open. The search is run once more along the log's cuts (`followed`), with the attack
on, until every claim is proved, a witness is found, or a limit is reached; in the last case the verdict is `unknown`,
and how many pieces were believed is said.

With `trust` a claim is believed where its row and the cuts above it stand in parts that the digests vouch for. That
guards against accidents and partial edits, and not against whoever rewrites the whole folder.

Nothing of this is logged: a leaf that closes after further splits is closed, as the log says.

Soundness: that of the search.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...kernels.deadline import now
from ..search.engine import Engine, Limits
from ..search.observer import Observer
from ..search.schedule import Schedule
from ..search.verdict import Cause, End, Verdict
from .followed import Count, Followed, summed
from .read import Ints, Partition

if TYPE_CHECKING:
    from ..search.state import State


class _Lines(Observer):
    """Passes progress on; the pieces of the second search are no news."""

    def __init__(self, observers: tuple[Observer, ...]) -> None:
        self.observers = observers

    def progress(self, mark: str, state: State) -> None:
        for observer in self.observers:
            observer.progress(mark, state)


def claims_of(partition: Partition, trust: bool) -> Ints:
    """The closed leaves that must be proved again."""
    return partition.closed[~partition.verified[partition.closed]] if trust else partition.closed


def proved_again(engine: Engine, partition: Partition, trust: bool, stats: dict[str, float | int | str]) -> Verdict:
    """The verdict of a resumed search that closed all it started from; `engine.schedule.end` and the witness in its
    state say why. `stats` gets what became of the log's claims."""
    claims, closed = claims_of(partition, trust), len(partition.closed)
    if len(claims) < closed:
        stats["trusted"] = f"{closed - len(claims)} of {closed} closed pieces of the log, whose digests hold"
    if not len(claims):
        return Verdict.HOLDS
    begun, state, first = now(), engine.state, engine.schedule
    tree, count = Followed(engine.tree, partition, claims), Count()
    limit = first.max_pieces
    if limit is not None:  # new pieces; those on the log's way are not counted
        limit = max(0, limit - state.pieces) + 2 * int(tree.claimed.sum()) + partition.roots
    second = Engine(
        tree,
        engine.attack_with,
        Schedule(first.attack_on, limit),
        (count, _Lines(tuple(engine.observers))),
        Limits(state.deadline, state.batch, engine.memory),
    )
    verdict = second.run()
    state.spend("replay", begun)
    reason = "" if verdict is Verdict.HOLDS else second.schedule.reason or verdict
    found = summed(partition, claims, count, reason, now() - begun)
    stats["replayed"] = f"{found.leaves - found.open} of {found.leaves} closed pieces of the log were proved again"
    if verdict is Verdict.VIOLATED:
        state.witness = second.state.witness
        return Verdict.VIOLATED
    if verdict is Verdict.HOLDS and found.good:
        return Verdict.HOLDS
    said = (
        f"{found.open} of {closed} pieces that the log calls closed are believed, not proved again ({reason}); every "
        "other piece is closed. Give more time, or trust the log (--trust-log) where its digests hold"
    )
    return engine.ended(End(Cause.BELIEVED, said))
