"""The loop on its own: no piece is lost where a limit, a lack of memory or a leaf stops it, no goal is another's."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from logs import logged
from networks import barely
from search import Recorded, engine, filled, run
from test_precision import network

from partita.bab.logs.resume import pieces_of
from partita.bab.search.schedule import Schedule
from partita.bab.search.state import State
from partita.bab.search.verdict import TIME_IS_UP, Cause, End
from partita.bab.trees.frontier import Frontier
from partita.bab.trees.records import Branch
from partita.bab.trees.shared_bounds import shared_depth
from partita.bab.trees.tree import Settled
from partita.kernels.deadline import TimeUp
from partita.problems.properties.property import Case, Polytope, Property, UnsafeSet


def many_goals(count: int, inputs: int = 2):
    """An affine network: every root is a leaf, settled by a program of its own. The last goal is violated."""
    graph = network(([[1.0] * inputs], [0.0]))
    sets = [UnsafeSet(np.array([[1.0], [-1.0]]), np.array([-c, c - 0.5])) for c in range(-count, 0)]
    sets.append(UnsafeSet(np.array([[1.0], [-1.0]]), np.array([-1.0, 0.25])))
    return graph, Property((Case(Polytope(np.zeros(inputs), np.ones(inputs)), tuple(sets)),), inputs, 1)


def held(sets: int):
    """Several sets that are not reached, each after a few splits."""
    graph, prop = barely(2, sets=sets)
    (case,) = prop.cases
    apart = tuple(UnsafeSet(unsafe.rows, unsafe.constants + 0.3) for unsafe in case.unsafe)
    return graph, Property((Case(case.inputs, apart),), prop.n_in, prop.n_out)


def left(record: Recorded) -> int:
    """Pieces that were made and did not end."""
    return len(record.roots) + len(record.children) - len(record.leaves)


def test_leaves_that_a_limit_leaves_out_stay_open():
    """After two settled leaves the time is over: the others are open, and nothing is said to hold."""
    graph, prop = many_goals(6)
    record = Recorded()
    made = engine(graph, prop, [record], blind=True, precision="float64")
    bound, settled = made.tree.bound, []

    def undecided(part):
        """As if no bound had closed anything: every root is a leaf."""
        bounded = bound(part)
        bounded.closed[:] = False
        bounded.near[:] = False
        bounded.decided[:] = True
        return bounded

    def leaf(part, row, seconds=None):
        settled.append(int(part.goal[row]))
        return Settled(True, None, "")

    made.tree.bound, made.tree.leaf = undecided, leaf
    made.schedule.exhausted = lambda state: len(settled) >= 2
    with torch.no_grad():
        assert made.run() != "unsat"
    assert len(settled) == 2 and made.state.open == 5 and made.state.leaves == 2 and left(record) == 5


@pytest.mark.parametrize("point", [None, np.zeros(2)])
def test_a_leaf_that_is_not_closed_is_stuck(point):
    """Whether or not it gives a point to try; then nothing holds."""
    graph, prop = many_goals(3)
    record = Recorded()
    made = engine(graph, prop, [record], blind=True, precision="float64")
    bound = made.tree.bound

    def undecided(part):
        bounded = bound(part)
        bounded.closed[:] = False
        bounded.near[:] = False
        bounded.decided[:] = True
        return bounded

    made.tree.bound = undecided
    made.tree.leaf = lambda part, row, seconds=None: Settled(False, point, "for a reason")
    with torch.no_grad():
        assert made.run() == "unknown"
    assert made.state.stuck == 4 and "for a reason" in made.schedule.reason and made.state.leaves == 0


def test_a_leaf_that_exact_arithmetic_leaves_open_is_stuck():
    """Asked further, it says neither yes nor no; where it says yes, the leaf is closed."""
    graph, prop = many_goals(3)
    for answer in (False, True):
        made = engine(graph, prop, blind=True, precision="float64")
        bound, asked = made.tree.bound, []

        def undecided(part, bound=bound):
            bounded = bound(part)
            bounded.closed[:] = False
            bounded.near[:] = False
            bounded.decided[:] = True
            return bounded

        def further(seconds, asked=asked, answer=answer):
            asked.append(seconds)
            return Settled(answer, None, "it was too large")

        made.tree.bound = undecided
        made.tree.leaf = lambda part, row, seconds=None, further=further: Settled(False, None, "once", further)
        with torch.no_grad():
            verdict = made.run()
        assert len(asked) == 4
        assert verdict == ("unsat" if answer else "unknown") and made.state.stuck == (0 if answer else 4)


def test_pieces_that_wait_are_not_forgotten_where_the_first_ones_close(tmp_path):
    """A run is taken up, and its first part closes at once: nothing holds before the other parts are bounded."""
    graph, prop = barely(2)
    _, _, tree = logged(tmp_path / "log", graph, prop, split="input", max_pieces=12, batch=8)
    assert len(tree.unsettled) > 3
    made = engine(graph, prop, split="input", blind=True)
    made.state.batch = 1
    made.go_on(pieces_of(made.tree, made.roots, tree, tree.unsettled), tree.count, len(tree.closed), tree.weight)
    bound, seen = made.tree.bound, []

    def closing(part):
        bounded = bound(part)
        seen.extend(part.id.tolist())
        bounded.closed[:] = True
        return bounded

    made.tree.bound = closing
    with torch.no_grad():
        assert made.run() == "unsat"
    assert sorted(seen) == sorted(tree.unsettled.tolist()) and made.state.weight == pytest.approx(1)


def test_parents_whose_children_do_not_fit_are_split_later():
    graph, prop = held(7)
    record = Recorded()
    made = engine(graph, prop, [record], blind=True)
    split, failures = made.tree.split, []

    def failing(part):
        if not failures and len(part) > 1:
            failures.append(len(part))
            raise MemoryError
        return split(part)

    made.tree.split = failing
    with torch.no_grad():
        assert made.run() == "unsat"
    assert failures
    assert sum(2.0 ** -record.depths[p] for p in record.leaves) == pytest.approx(7)


def test_decisions_are_shared_from_the_first_on():
    neuron, sign = torch.tensor([[1, 2, 3], [1, 9, 3]]), torch.tensor([[1.0, 1, 1], [1, 1, 1]])
    record = filled(Branch, torch.zeros(2), neuron=neuron, sign=sign)
    assert shared_depth(record) == 1
    assert shared_depth(replace(record, neuron=neuron[:, 1:], sign=sign[:, 1:])) == 0


def test_what_is_near_is_closed_by_its_confirmation_alone():
    graph, prop = barely(1)
    for answer in (False, True):
        made = engine(graph, prop, blind=True, max_pieces=30)
        bound = made.tree.bound

        def near(part, bound=bound):
            bounded = bound(part)
            bounded.closed[:] = False
            bounded.near[:] = True
            return bounded

        made.tree.bound = near
        made.tree.confirm = lambda record, answer=answer: torch.full((len(record),), answer)
        with torch.no_grad():
            verdict = made.run()
        assert (verdict == "unsat") is answer
        assert (made.state.confirmed > 0) is answer


def test_a_witness_is_judged_for_the_goal_it_is_of():
    """Found by the program of the last of several leaves."""
    graph, prop = many_goals(4, 2)
    made = engine(graph, prop, attack="off", precision="float64")
    judged = []
    judge = made.attack_with.judge
    made.attack_with.judge = lambda x, goal: judged.append(goal) or judge(x, goal)
    with torch.no_grad():
        assert made.run() == "sat"
    assert judged and judged[-1] == (0, 4) and made.state.witness.goal == (0, 4)


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_every_part_of_a_batch_is_bounded(most):
    """Batches of one, of three, of all: the same tree ends, each root is seen, none twice."""
    graph, prop = held(7)
    record = Recorded()
    made = engine(graph, prop, [record], blind=True, batch=most)
    bound, seen = made.tree.bound, []

    def watched(part):
        seen.extend(part.id.tolist())
        return bound(part)

    made.tree.bound = watched
    with torch.no_grad():
        verdict = made.run()
    assert set(range(7)) <= set(seen) and len(seen) == len(set(seen))
    assert verdict == run(graph, prop, blind=True)[0] == "unsat"
    assert sum(2.0 ** -record.depths[p] for p in record.leaves) == pytest.approx(7)


@pytest.mark.parametrize("limit", [1, 3, 6])
def test_what_a_limit_leaves_is_open(limit):
    graph, prop = held(7)
    record = Recorded()
    verdict, made = run(graph, prop, [record], blind=True, batch=2, max_pieces=limit)
    assert made.state.open + made.state.stuck + made.state.leaves == len(record.roots) + len(record.children)
    assert verdict == "unsat" or made.state.open > 0
    ids = made.state.frontier.pop(10**6).id.tolist() if len(made.state.frontier) else []
    assert len(ids) == len(set(ids)) and not set(ids) & set(record.leaves)


def test_time_that_is_up_ends_the_search():
    """Whoever looked at the clock: the reason is kept where there is one already, and the batch is as it was."""
    graph, prop = held(4)
    for before, after in ((None, TIME_IS_UP), (interrupted := End(Cause.INTERRUPT, "interrupted"), interrupted)):
        made = engine(graph, prop, blind=True)
        batch, made.schedule.end = made.state.batch, before
        made.shrink(TimeUp("the time limit has passed"), 3)
        assert made.schedule.end is after and made.state.batch == batch
        assert made.schedule.exhausted(made.state)


def test_parts_that_did_not_fit_are_bounded_later():
    """Memory runs out in the first calls: nothing is left out for it."""
    graph, prop = held(4)
    made = engine(graph, prop, blind=True)
    bound, split, failures = made.tree.bound, made.tree.split, []

    def failing(call):
        def inner(part):
            if len(part) > 1 and len(failures) < 2 * (1 + (call is split)):
                failures.append(len(part))
                raise MemoryError
            return call(part)

        return inner

    record = Recorded()
    made.observers = [record]
    made.tree.bound, made.tree.split = failing(bound), failing(split)
    with torch.no_grad():
        assert made.run() == "unsat"
    assert len(failures) >= 2
    assert sum(2.0 ** -record.depths[p] for p in record.leaves) == pytest.approx(4)


# The table of open pieces.


def table(count: int) -> Frontier:
    frontier, every = Frontier(), torch.arange(count)
    frontier.push(filled(Branch, -every.float() - 1, goal=every % 3, neuron=every[:, None]))
    return frontier


def test_pieces_are_taken_by_what_is_said_of_them():
    frontier = table(300)
    taken = frontier.take(lambda open_: open_.neuron[:, 0] % 2 == 0)
    assert sorted(taken.neuron[:, 0].tolist()) == list(range(0, 300, 2)) and len(frontier) == 150
    frontier.push(replace(taken, neuron=taken.neuron.expand(-1, 2)))
    rest = frontier.pop(1000)
    assert sorted(rest.neuron[:, 0].tolist()) == list(range(300)) and len(frontier) == 0
    odd = rest.neuron[:, 0] % 2 == 1
    assert (rest.neuron[odd, 1] == -1).all()


@pytest.mark.parametrize("best", [False, True])
def test_a_batch_agrees_in_one_field(best):
    frontier = table(20)
    seen = []
    while len(frontier):
        part = frontier.pop(4, best=best, grouped_by="goal")
        assert len(set(part.goal.tolist())) == 1 and 0 < len(part) <= 4
        seen += part.neuron[:, 0].tolist()
    assert sorted(seen) == list(range(20))


def test_limits_are_kept_to_the_piece_and_what_waits_is_open():
    state = State(table(3), 1, 4, waiting=2, pieces=6)
    assert state.open == 5 and state.left == np.inf
    schedule = Schedule(False, 7)
    assert not schedule.exhausted(state) and schedule.tightening(state)
    state.pieces = 7
    assert schedule.exhausted(state) and "7 pieces" in schedule.reason
    state.pieces = 0
    assert schedule.exhausted(state)  # a search that has a reason to end does not go on
    state.deadline = time.monotonic() + 60
    schedule = Schedule(False, None, derivation=20.0)
    assert 50 < state.left <= 60 and schedule.tightening(state) and not schedule.exhausted(state)
    schedule.derivation = 40.0
    assert not schedule.tightening(state)
    state.deadline = time.monotonic()
    assert schedule.exhausted(state) and schedule.end is TIME_IS_UP
