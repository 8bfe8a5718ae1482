"""A native solver that dies costs one bound: the worker process, its screen, its scaling, its callers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from fractions import Fraction

import numpy as np
import pytest
import torch
from networks import random_box, random_graph
from scipy.sparse import csr_array
from test_backends import triangle

from partita.kernels.solving import door, scaling, server
from partita.kernels.solving import worker as processes
from partita.kernels.solving.worker import Died, Worker
from partita.problems.properties.property import Polytope
from partita.relaxations.lp import highs
from partita.relaxations.lp.highs import HighsMany
from partita.relaxations.lp.model import LinearModel, Status

needs_posix = pytest.mark.skipif(os.name != "posix", reason="signals and sessions of POSIX")


@pytest.fixture
def remote(monkeypatch):
    """A worker of this test's own, through which every program goes."""
    own = Worker()
    monkeypatch.setattr(door, "RATIO", 0.0)
    monkeypatch.setattr(door, "worker", lambda: own)
    yield own
    own.close()


def killed(worker: Worker) -> None:
    with pytest.raises(Died, match="died"):
        worker.ask("abort")


# The screen.


def test_programs_beyond_the_ratio_or_the_magnitude_go_to_the_worker():
    def here(*entries: float) -> bool:
        return not door.wild(np.array(entries))

    assert here() and here(0.0, 0.0) and here(1.0, -0.9 * door.RATIO) and here(0.0, -1.0, 2.0)
    assert here(100.0, 90.0 * door.RATIO) and not here(0.01, 0.02 * door.RATIO)
    assert not here(1.0, -1.1 * door.RATIO) and not here(-1.0, 0.0, 1.1 * door.RATIO)
    assert here(1e-15, 1.0, door.RATIO / 2) and not here(1e-15, 2e-9, 4.0)
    assert not here(door.LARGE, door.LARGE) and not here(np.nan, 1.0) and not here(np.inf) and not here(-np.inf, 1.0)


def test_an_ordinary_solve_starts_no_process():
    code = (
        "assert highs.solve(m).status.name == 'optimal' and worker().generation == 0\n"
        "door.RATIO = 0.0\n"
        "assert highs.solve(m).value == -1.5 and worker().generation == 1\n"
    )
    done = run(code)
    assert done.returncode == 0 and not done.stderr, done.stderr


# Scaling.


@pytest.mark.parametrize("seed", range(5))
def test_powers_of_two_are_undone_exactly(seed):
    random = np.random.default_rng(seed)
    shape = 12, 9
    row, column = (random.random(shape) < 0.4).nonzero()
    data = random.normal(size=len(row)) * 10.0 ** random.uniform(-12, 12, len(row))
    by = scaling.equilibrated(data, row, column, shape)
    scaled = by.coefficients(data, row, column)
    ratio = [np.abs(part).max() / np.abs(part).min() for part in (data, scaled)]
    assert ratio[1] < ratio[0]
    exact = [Fraction(v) * Fraction(2) ** (int(by.rows[i]) + int(by.columns[j])) for v, i, j in zip(data, row, column)]
    assert [Fraction(v) for v in scaled] == exact
    x, side = random.normal(size=shape[1]) * 1e9, np.append(random.normal(size=shape[0] - 1), -np.inf)
    assert (by.point(by.bounds(x)) == x).all() and by.bounds(np.array([np.inf] * 9)).max() == np.inf
    assert (np.ldexp(by.sides(side), -by.rows) == side).all()
    cost = random.normal(size=shape[1]) * 1e20
    priced = scaling.Scaling(by.rows, by.columns, scaling.cost_exponent(cost))
    assert 0.5 <= np.abs(scaling.Scaling(by.rows, 0 * by.columns, priced.cost).costs(cost)).max() < 1
    assert priced.value(2.0**-priced.cost * 3.0) == 3.0


def test_a_badly_scaled_program_is_solved_as_well_as_its_well_scaled_twin(remote):
    """The twin's rows and columns are multiplied by powers of two: the same vertex, multipliers and bound."""
    m, random = triangle(1), np.random.default_rng(1)
    up = 2.0 ** random.integers(-20, 20, len(m.cost))
    down = 2.0 ** random.integers(-20, 20, len(m.row_lower))
    matrix = csr_array(m.matrix.multiply(down[:, None]).multiply(up[None]))
    wild = LinearModel(m.cost, m.lower / up, m.upper / up, matrix, down * m.row_lower, down * m.row_upper)
    many = HighsMany(wild)
    for _ in range(4):
        cost = random.normal(size=len(m.cost))
        ours, theirs = many.minimise(cost * up, 0.5), highs.solve(m.with_objective(cost, 0.5))
        assert ours.value == pytest.approx(theirs.value)
        assert theirs.value - 1e-6 < ours.bound_safe <= theirs.value + 1e-9
        assert many.model.violation(ours.x * 1.0) < 1e-3 and m.violation(ours.x * up) < 1e-6
        assert ours.bound_safe == many.model.safe_bound(ours.dual)
    assert remote.generation == 1 and remote.deaths == 0


# Answers of the worker.


@pytest.mark.parametrize("seed", range(3))
def test_the_worker_answers_as_this_process_does(remote, monkeypatch, seed):
    m, random = triangle(seed), np.random.default_rng(seed)
    there, middle = HighsMany(m), (m.lower + m.upper) / 2
    costs, row = random.normal(size=(5, len(m.cost))), random.normal(size=(2, len(m.cost)))

    def changed(many: HighsMany) -> list:
        found = [many.minimise(costs[0], 0.5), many.minimise(costs[1])]
        many.set_bounds(np.maximum(m.lower, middle - 1.0), m.upper)
        found.append(many.minimise(costs[2]))
        many.add_rows(csr_array(row), np.full(2, -np.inf), np.array([5.0, 7.0]))
        found.append(many.minimise(costs[3]))
        equal = many.model.row_lower == many.model.row_upper
        many.set_sides(np.where(equal, many.model.row_lower, many.model.row_lower - 0.1), many.model.row_upper)
        found.append(many.minimise(costs[4]))
        many.set_bounds(m.upper, m.lower)
        return [*found, many.minimise(costs[0])]

    ours = changed(there)
    assert isinstance(there._solver, door.Remote) or there._solver is None
    assert remote.generation == 1
    monkeypatch.setattr(door, "RATIO", 1e9)
    for a, b in zip(ours, changed(HighsMany(m)), strict=True):
        assert a.status is b.status and a.value == pytest.approx(b.value, abs=1e-7)
        assert a.bound_safe == pytest.approx(b.bound_safe, abs=1e-6)


def test_infeasible_programs_are_certified_and_integers_kept_in_the_worker(remote):
    box = np.zeros(3), np.ones(3)
    apart = LinearModel(np.ones(3), *box, csr_array(np.array([[1.0, 1.0, 1e12]])), np.array([3e12]), np.array([np.inf]))
    assert highs.solve(apart).bound_safe == np.inf
    whole = LinearModel(
        np.array([-1.0, -1.0, 0.0]), *box, csr_array(np.array([[2.0, 2.0, 0.0]])), np.array([-np.inf]),
        np.array([3.0]), np.array([True, True, False]), offset=0.25,
    )  # fmt: skip
    found = highs.solve(whole)
    assert found.status is Status.optimal and found.value == pytest.approx(-0.75) == found.bound
    assert remote.generation == 1


def test_coefficients_that_the_solver_refuses_prove_nothing(remote):
    for size in (1e200, 1e-200, 1e300):
        m = LinearModel(
            np.array([1.0, -1.0]), np.zeros(2), np.ones(2), csr_array(np.array([[size, 1.0], [1.0, size]])),
            np.zeros(2), np.full(2, np.inf),
        )  # fmt: skip
        assert highs.solve(m).bound_safe <= -1 + 1e-9


def wild_program(random: np.random.Generator) -> LinearModel:
    """Entries from 1e-30 to 1e30 around a feasible point."""
    rows, columns = int(random.integers(1, 6)), int(random.integers(1, 5))
    span = random.uniform(0, 30)
    matrix = random.normal(size=(rows, columns)) * 10.0 ** random.uniform(-span, span, (rows, columns))
    matrix *= random.random((rows, columns)) < 0.8
    width = 10.0 ** random.uniform(-span / 4, span / 4, columns)
    level = matrix @ (random.uniform(-1, 1, columns) * width)
    room = np.abs(matrix) @ width * random.choice([1e-3, 1.0], rows)
    lower = np.where(random.random(rows) < 0.5, -np.inf, level - room)
    cost = random.normal(size=columns) * 10.0 ** random.uniform(-5, 5, columns)
    return LinearModel(cost, -width, width, csr_array(matrix), lower, level + room, offset=random.normal())


def exactly_feasible(m: LinearModel, random: np.random.Generator) -> list[list[Fraction]]:
    """Points that satisfy the program exactly, in whole numbers."""
    dense = [[Fraction(v) for v in row] for row in m.matrix.toarray()]
    found = []
    for _ in range(40):
        x = [Fraction(v) for v in random.uniform(m.lower, m.upper)]
        inside = True
        for row, low, high in zip(dense, m.row_lower, m.row_upper, strict=True):
            value = sum((a * b for a, b in zip(row, x, strict=True)), Fraction(0))
            inside &= (low == -np.inf or value >= Fraction(low)) and (high == np.inf or value <= Fraction(high))
        if inside:
            found.append(x)
    return found


def test_bounds_of_wild_programs_hold_at_exactly_feasible_points(remote, monkeypatch):
    monkeypatch.setattr(door, "RATIO", 1e9)
    checked = strange = proved = 0
    for seed in range(120):
        random = np.random.default_rng(seed)
        m = wild_program(random)
        found = highs.solve(m)
        strange += door.wild(m.matrix.data)
        proved += np.isfinite(found.bound_safe)
        for x in exactly_feasible(m, random):
            value = sum((Fraction(c) * v for c, v in zip(m.cost, x, strict=True)), Fraction(m.offset))
            assert found.bound_safe < np.inf
            assert found.bound_safe == -np.inf or Fraction(found.bound_safe) <= value
            checked += 1
    assert checked > 300 and strange > 60 and proved > 60 and remote.generation >= 1


# Deaths.


def test_a_death_costs_one_bound_and_the_next_is_solved_again(remote):
    m, random = triangle(0), np.random.default_rng(0)
    many, cost = HighsMany(m), random.normal(size=len(m.cost))
    truth = many.minimise(cost)
    assert truth.status is Status.optimal
    killed(remote)
    assert many.minimise(cost).value == pytest.approx(truth.value)  # its program is handed over again
    many = HighsMany(m)
    many._solver._calls.insert(0, ("abort_", ()))  # a call that fails without killing, before the program is taken
    failed = many.minimise(cost)
    assert failed.status is Status.failed and failed.bound_safe == -np.inf and "AttributeError" in failed.note
    assert many.minimise(cost).value == pytest.approx(truth.value)
    assert remote.deaths == 1 and remote.generation == 2


@needs_posix
@pytest.mark.parametrize("number", (signal.SIGKILL, signal.SIGSEGV))
def test_a_solver_killed_while_it_runs_costs_that_bound(remote, monkeypatch, number):
    m = triangle(0)
    many, cost = HighsMany(m), np.ones(len(m.cost))
    truth = many.minimise(cost)
    sent = processes._send

    def fatal(process, value, deadline):
        sent(process, value, deadline)
        if value[0] == "run":
            process.send_signal(number)  # it may have answered already; then the answer stands
            process.wait(10)

    monkeypatch.setattr(processes, "_send", fatal)
    found = many.minimise(cost)
    monkeypatch.setattr(processes, "_send", sent)
    assert (found.status is Status.failed and found.bound_safe == -np.inf and "died" in found.note) or (
        found.value == pytest.approx(truth.value)
    )
    assert many.minimise(cost).value == pytest.approx(truth.value)


def test_after_too_many_deaths_none_is_started(remote, monkeypatch):
    monkeypatch.setattr(processes, "DEATHS", 2)
    m = triangle(0)
    for _ in range(2):
        killed(remote)
    found = highs.solve(m)
    assert found.status is Status.failed and found.bound_safe == -np.inf and "died 2 times" in found.note
    assert remote.process is None and remote.generation == 2


@needs_posix
def test_a_worker_that_does_not_answer_is_given_up_in_time(remote):
    m = triangle(0)
    highs.solve(m)
    os.kill(remote.process, signal.SIGSTOP)
    begin = time.monotonic()
    found = highs.solve(m, time_limit=0.2)
    assert found.status is Status.failed and "no answer within the time limit" in found.note
    assert time.monotonic() - begin < 5
    assert highs.solve(m).status is Status.optimal


def test_an_interrupt_does_not_shift_the_answers(remote, monkeypatch):
    m = triangle(0)
    truth = highs.solve(m.with_objective(np.ones(len(m.cost)))).value
    read = processes._bytes

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(processes, "_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        highs.solve(m.with_objective(-np.ones(len(m.cost))))
    monkeypatch.setattr(processes, "_bytes", read)
    assert remote.process is None  # an answer that was on its way would be the next one's
    assert highs.solve(m.with_objective(np.ones(len(m.cost)))).value == pytest.approx(truth)
    assert remote.deaths == 0


def test_other_users_of_the_door_survive_a_death(remote, monkeypatch):
    """Counting cells and the vertices of a polytope."""
    from partita.bab.counting.programs import Rows, _Solver
    from partita.kernels.vertices import body

    square = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert len(body(square, np.ones(4)).vertices) == 4
    solver = _Solver(-np.ones(2), np.ones(2))
    rows = Rows(np.array([[1.0, 2e9], [1.0, 1.0]]), np.array([0.0, 0.5]), np.zeros(2))
    solver.load(rows)
    x, price = solver.least(np.array([1.0, 0.0]))
    assert x == pytest.approx([-1.0, 0.5], abs=1e-6) or x[0] + x[1] > -0.5 - 1e-6
    assert (price >= 0).all() and remote.generation == 1
    killed(remote)
    assert solver.least(np.array([1.0, 0.0]))[0][0] == pytest.approx(x[0])
    assert solver.deepest(rows) is not None
    monkeypatch.setattr(processes, "DEATHS", 0)
    remote.close()
    assert solver.least(np.array([1.0, 0.0])) is None
    assert body(square, np.ones(4)) is None


@pytest.mark.parametrize("name", ("triangle", "k-relu", "exact"))
def test_bounds_stay_sound_where_every_program_dies(remote, monkeypatch, name):
    from partita.relaxations.bound import bound

    graph, box = random_graph(3, "mlp", inputs=3, width=4), random_box(3, 3, 0.5)
    rows = torch.eye(graph.output_size, dtype=torch.float64)[:1]
    monkeypatch.setattr(processes, "DEATHS", 0)
    found = bound(graph, box, name, rows, torch.zeros(1, dtype=torch.float64))
    random = np.random.default_rng(0)
    least = min(
        float(graph(torch.as_tensor(x))[0]) for x in random.uniform(box.lower, box.upper, (200, len(box.lower)))
    )
    assert float(found.lower[0]) <= least
    assert isinstance(box, Polytope)


# The process.


def test_threads_take_turns(remote):
    m = triangle(0)
    costs = np.random.default_rng(0).normal(size=(12, len(m.cost)))
    truth = [highs.solve(m.with_objective(cost)).value for cost in costs]
    found = [0.0] * len(costs)

    def solved(k: int) -> None:
        found[k] = highs.solve(m.with_objective(costs[k])).value

    threads = [threading.Thread(target=solved, args=(k,)) for k in range(len(costs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == pytest.approx(truth) and remote.generation == 1


@needs_posix
def test_a_forked_child_starts_its_own_and_leaves_the_parents_alone():
    code = """
import os
door.RATIO = 0.0
before, mine = highs.solve(m).value, worker().process
child = os.fork()
if not child:
    ok = highs.solve(m).value == before and worker().process != mine
    os._exit(0 if ok else 1)
assert os.waitpid(child, 0)[1] == 0
assert highs.solve(m).value == before and worker().process == mine and worker().deaths == 0
"""
    done = run(code)
    assert done.returncode == 0 and not done.stderr, done.stderr


@needs_posix
def test_the_worker_imports_no_main_module_and_ends_with_its_parent():
    """Started from `python -c` without a guard; the parent is killed outright while the worker waits."""
    code = """
import os, signal
print("main", flush=True)
door.RATIO = 0.0
highs.solve(m)
print(worker().process, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = run(code)
    lines = done.stdout.split()
    assert lines[0] == "main" and len(lines) == 2 and done.returncode == -signal.SIGKILL
    assert gone(int(lines[1]))


@needs_posix
def test_a_worker_that_is_solving_ends_with_its_parent():
    """Its input is held open by a child of the parent, so that only the parent's absence tells."""
    code = """
import os, signal, time
door.RATIO = 0.0
highs.solve(m)
print(worker().process, flush=True)
if not os.fork():
    for stream in (1, 2):
        os.close(stream)
    time.sleep(15)
    os._exit(0)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = run(code)
    assert done.returncode == -signal.SIGKILL and gone(int(done.stdout))


@needs_posix
def test_an_alarm_ends_a_solver_that_overruns_whatever_it_does(monkeypatch):
    """In the worker's code: the alarm keeps its default action, which needs no interpreter."""
    seen = []
    monkeypatch.setattr(server.signal, "alarm", seen.append)
    one = server.Server()
    one.alarm(3.7)
    one.alarm(None)
    assert seen == [3 + server.GRACE, 0]


def test_an_answer_of_another_process_is_not_taken(remote):
    m = triangle(0)
    many = HighsMany(m)
    many.minimise(np.ones(len(m.cost)))
    solver = many._solver
    killed(remote)
    highs.solve(m)
    assert not solver.standing
    with pytest.raises(Died, match="restarted since"):
        solver.run()
    assert remote.deaths == 1


@needs_posix
def test_no_interrupt_of_the_terminal_reaches_the_worker(remote):
    m = triangle(0)
    highs.solve(m)
    assert os.getsid(remote.process) != os.getsid(0)
    os.kill(remote.process, signal.SIGINT)
    assert highs.solve(m).status is Status.optimal
    assert remote.generation == 1 and remote.deaths == 0
    process = remote.process
    remote.close()
    assert gone(process) and highs.solve(m).status is Status.optimal


START = """
import numpy as np
from scipy.sparse import csr_array
from partita.kernels.solving import door
from partita.kernels.solving.worker import worker
from partita.relaxations.lp import highs
from partita.relaxations.lp.model import LinearModel
row, side = csr_array(np.ones((1, 2))), np.array([-1.5])
m = LinearModel(np.ones(2), -np.ones(2), np.ones(2), row, side, -side)
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, without a main module's file."""
    where = os.pathsep.join(path or os.getcwd() for path in sys.path)
    environment = os.environ | {"PYTHONPATH": where}
    return subprocess.run(
        [sys.executable, "-c", START + code], timeout=60, env=environment, capture_output=True, text=True
    )


def gone(process: int) -> bool:
    """Whether the process ends within ten seconds (a zombie that nobody waits for has ended)."""
    for _ in range(200):
        with suppress(OSError):
            os.waitpid(process, os.WNOHANG)
        try:
            with open(f"/proc/{process}/stat", encoding="ascii") as stat:
                if stat.read().rsplit(")", 1)[1].split()[0] == "Z":
                    return True
        except OSError:
            try:
                os.kill(process, 0)
            except ProcessLookupError:
                return True
        time.sleep(0.05)
    return False


def test_solvers_that_are_let_go_are_dropped_in_the_worker(remote):
    m = triangle(0)
    many = HighsMany(m)
    many.minimise(np.ones(len(m.cost)))
    number = many._solver._number
    del many
    assert list(remote.dropped) == [number]
    highs.solve(m)
    assert number not in remote.dropped
