"""`partita.verify` and what the command line shares with it: from files, graphs or PyTorch modules to an `Outcome`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..kernels.deadline import TimeUp, now, staged, until
from ..problems.device import present
from ..problems.errors import BadInput, out_of_memory
from ..problems.given import path_of
from ..problems.load import load_problem
from .config import Config, keys_of, load_config
from .search.known import Known
from .search.verdict import Verdict

if TYPE_CHECKING:
    import torch

    from ..problems.network.graph import Graph
    from ..problems.onnx.compare import Comparison
    from ..problems.originals.original import Original
    from ..problems.properties.property import Property
    from .logs.observer import PartitionLog
    from .verify import Outcome


SMALL = 1 << 19  # bytes of a file
COMPARED = 0.05  # of the time limit: what comparing the import may take


@dataclass(frozen=True, eq=False)
class Problem:
    """What the engine needs: the network, the property, and the original network as the judge of witnesses."""

    graph: Graph
    property: Property
    confirm: Original
    comparison: Comparison | None = None  # of the network with onnxruntime
    unused: tuple[str, ...] = ()  # options from a preset or a log that have no effect on this search, a sentence each


def verify(
    network: str | Path | Graph | torch.nn.Module,
    property: str | Path | Property,
    *,
    example_input: torch.Tensor | None = None,
    config: str | Path | Config | None = None,
    timeout: float | None = None,
    observers: Sequence[Any] = (),
    log: str | Path | None = None,
    resume: str | Path | None = None,
    trust_log: bool = False,
    **overrides: Any,
) -> Outcome:
    """Whether some input of the property's input set has an unsafe output.

    `network` is an `.onnx` or `.onnx.gz` file, a `Graph`, or a `torch.nn.Module` with an `example_input` (with its
    batch dimension, of size 1). `property` is a VNN-LIB file or a `Property`. `config` is a `Config`, a preset's name
    or a YAML file; `overrides` are options by name (`attack="off"`, `batch=256`), refused where they have no effect on
    this search; of those in a preset or a log that have none, the outcome's notes say so. `timeout` counts seconds from
    this call. `log` names a folder for the partition log, which must hold none yet; `resume` one that holds the log of
    a run to go on with: the configuration is then the log's, and only limits may be given. What that log calls closed
    is proved again before `unsat` is said, unless `trust_log` and the log's digests vouch for it.

    Returns an `Outcome`: `unsat` (the property holds), `sat` (with a witness that the original network confirms),
    `unknown` or `timeout`, with the reason. Raises `BadInput` for input that is refused.
    """
    start = now()
    if timeout is not None:
        overrides["timeout"] = timeout
    log, resume = (None if p is None else path_of(what, p) for what, p in (("log", log), ("resume", resume)))
    observers = watching(observers)
    if trust_log and resume is None:
        raise BadInput("trust_log has no effect here: it acts with resume, where a log's claims are believed")
    if resume is not None:
        from .logs.logged import resumed_config

        if log is not None or config is not None:
            raise BadInput("resume goes on with the log it names, in that log's configuration: give no log, no config")
        settings, given = resumed_config(resume, overrides), []
    else:
        settings, given = load_config(config, overrides), keys_of(overrides)
    check_device(settings)
    deadline, known = None if settings.timeout is None else start + settings.timeout, Known()
    try:
        with until(deadline), staged(known.stage):
            problem = load(network, property, example_input, settings.timeout)
            problem = heeded(problem, settings, given)
            writer = log_of((network, property), problem, settings, log, resume, trust_log)
    except TimeUp:
        return known.outcome(now() - start)
    return decide(problem, settings, observers, deadline, writer, known)


def load(
    network: str | Path | Graph | torch.nn.Module,
    property: str | Path | Property,
    example_input: torch.Tensor | None = None,
    timeout: float | None = None,
) -> Problem:
    """The network and the property, read, matched, and compared with onnxruntime where the property is about."""
    from ..kernels.arithmetic import full_products
    from ..kernels.threads import MEDIUM, NARROW, threads_for

    seconds = None if timeout is None else COMPARED * timeout
    with full_products(), threads_for(NARROW if small(network) else MEDIUM + 1):
        return Problem(*load_problem(network, property, example_input, seconds))


def watching(observers: Any) -> tuple[Any, ...]:
    """The observers; `BadInput` for what are none."""
    if isinstance(observers, str) or not isinstance(observers, Iterable):
        raise BadInput(f"observers must be a list of observers, not {observers!r}")
    found = tuple(observers)
    for one in found:
        if not callable(getattr(one, "finished", None)):
            raise BadInput(f"{one!r} is no observer: it has no method 'finished' (see bab/search/observer.py)")
    return found


def small(network: Any) -> bool:
    """Whether a network is so small that reading it and comparing it is best done by one thread."""
    try:
        return isinstance(network, str | Path) and Path(network).stat().st_size <= SMALL
    except (OSError, ValueError):  # said where the file is read
        return False


def heeded(problem: Problem, config: Config, given: Iterable[str]) -> Problem:
    """The problem with what is to be said of options without effect. Raises `BadInput` where one of them was given."""
    from .effects import heed

    return replace(problem, unused=tuple(heed(given, config, problem.graph)))


def decide(
    problem: Problem,
    config: Config,
    observers: Sequence[Any],
    deadline: float | None,
    log: PartitionLog | None = None,
    known: Known | None = None,
) -> Outcome:
    """Runs the engine; `deadline` is a value of `kernels.deadline.now`. The log is closed whatever happens. `known` is
    told how far the run is."""
    from ..kernels.arithmetic import full_products
    from ..kernels.memory import pages_kept
    from ..kernels.threads import threads_for
    from .search.waking import Waking
    from .verify import verify as engine

    outcome, known, start = None, known or Known(), now()
    if log is not None:
        deadline = log.before_closing(deadline)
    try:
        one = threads_for(problem.graph.widest)
        with full_products(), pages_kept(), one as more, until(deadline), staged(known.stage):
            outcome = engine(
                problem.graph,
                problem.property,
                config,
                confirm=problem.confirm,
                observers=(*observers, known, Waking(more)),
                deadline=deadline,
                log=log,
            )
        if problem.comparison is not None:
            outcome.stats["note import"] = problem.comparison.sentence
        outcome.stats.update({f"note option {k}": sentence for k, sentence in enumerate(problem.unused, 1)})
        return outcome
    except TimeUp:
        outcome = known.outcome(now() - start)
        return outcome
    except (MemoryError, RuntimeError, OSError) as error:
        if not out_of_memory(error):
            raise
        outcome = known.outcome(now() - start, Verdict.UNKNOWN, "out of memory")
        return outcome
    finally:
        if log is not None:
            log.close(outcome)


def log_of(
    given: tuple[Any, Any],
    problem: Problem,
    config: Config,
    log: str | Path | None,
    resume: str | Path | None,
    trust: bool = False,
) -> PartitionLog | None:
    """The log that this run writes, if any; see `logged.open_log`."""
    if log is None and resume is None:
        return None
    from .logs.logged import Wanted, open_log

    return open_log(given, problem.graph, problem.property, config, Wanted(log, resume, trust))


def check_device(config: Config) -> None:
    """Raises `BadInput` where the configuration asks for a device that is not here."""
    if config.device.startswith("cuda"):
        present(config.device, "cpu or auto")
