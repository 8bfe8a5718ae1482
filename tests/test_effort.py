"""The section `effort` of the configuration: strict, complete, and with no say in a verdict."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from dataclasses import FrozenInstanceError, asdict
from pathlib import Path
from random import Random

import pytest

import partita
from partita.bab.commands.main import run as command
from partita.bab.config import Config, efforts, load_config, options
from partita.bab.effects import EFFORT, heed_bound
from partita.bab.effort import AttackEffort, Effort
from partita.problems.effort import every, members
from partita.problems.errors import BadInput
from partita.problems.network.library import maximum
from partita.relaxations.catalogue import CATALOGUE
from partita.relaxations.effort import LeafEffort, ProgramEffort

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import fuzz_verdicts  # noqa: E402
import write_effort  # noqa: E402
from measure import verdict_cases  # noqa: E402

PROOF = ROOT / "kernels" / "proof_constants.py"


def test_ordinary_options_stay_few():
    assert len(options()) < 20 and not any(key.startswith("effort.") for key in options())
    assert list(efforts()) == [f"effort.{name}" for name, *_ in every(Effort())]
    assert set(EFFORT) == {f.name for f, _ in members(Effort)}


def test_every_number_says_what_it_is_and_allows_its_default():
    for name, f, _, value in every(Effort()):
        least, most = f.metadata["minimum"], f.metadata["maximum"]
        for entry in value if isinstance(value, tuple) else (value,):
            assert least <= entry and (most is None or entry <= most), name
        assert len(f.metadata["why"]) > 10 and not f.metadata["why"].endswith("."), name


def test_the_page_is_the_groups():
    assert write_effort.FILE.read_text() == write_effort.page(), "python scripts/write_effort.py"


def test_every_number_is_read_somewhere():
    """As an attribute, outside the groups; those that a rung names, by its entry."""
    read = {rung.rows.groups for rung in CATALOGUE if rung.rows is not None}
    for floor in ("kernels", "problems", "relaxations", "bab"):
        for path in (ROOT / floor).rglob("*.py"):
            if path.name != "effort.py":
                nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                read |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert not {name for name, *_ in every(Effort()) if name.rsplit(".", 1)[-1] not in read}


def test_bounds_take_the_efforts_of_what_bounds():
    given = {"relaxation": "m-1", "effort.programs.rounds": 3}
    assert heed_bound(["effort.programs.rounds"], load_config(None, given)) == []
    with pytest.raises(BadInput, match="in partita bound with m-1: it acts in partita verify, in searches with attack"):
        heed_bound(["effort.attack.moves"], load_config(None, {"relaxation": "m-1", "effort.attack.moves": 3}))
    with pytest.raises(BadInput, match="it acts with the relaxations triangle"):
        heed_bound(["effort.programs.rounds"], load_config(None, {"relaxation": "crown", "effort.programs.rounds": 3}))
    graph, box = maximum(4), ([0.0] * 4, [1.0] * 4)
    few = Effort(programs=ProgramEffort(rounds=0, brief_rounds=0))
    loose, tight = (partita.bound(graph, box, "m-1:by=cuts", effort=effort) for effort in (few, Effort()))
    assert loose.upper[0] > tight.upper[0] + 0.1


def test_values_come_from_files_and_the_command_line(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("effort:\n  rows: {rounds: 3}\n  attack: {leaks: [0.0, 1e-1], samples: 2}\n")
    given = load_config(file, ["effort.attack.samples=4", "effort.attack.near_last=0.5,0.25"])
    assert (given.effort.rows.rounds, given.effort.attack.samples) == (3, 4)
    assert given.effort.attack.leaks == (0.0, 0.1) and given.effort.attack.near_last == (0.5, 0.25)
    assert load_config(None, {"effort.leaf.rounds": 7}).effort.leaf == LeafEffort(rounds=7)
    with pytest.raises(FrozenInstanceError):
        given.effort.leaf.rounds = 3


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("effort.leaf.round=3", "unknown option 'effort.leaf.round' on the command line; the nearest valid one is"),
        ("effort.laef.rounds=3", "the nearest valid one is 'effort.leaf.rounds'"),
        ("rounds=3", "unknown option 'rounds'"),
        ("effort.leaf.rounds=0", "'effort.leaf.rounds' on the command line must be at least 1, not '0'"),
        ("effort.leaf.rounds=1.5", "must be a whole number, not '1.5'"),
        ("effort.attack.momentum=2", "'effort.attack.momentum' on the command line must be at most 1, not '2'"),
        ("effort.attack.momentum=nan", "must be a number, not 'nan'"),
        ("effort.attack.leaks=0.5,", "must be a number, not ''"),
        ("effort.attack.leaks=0.5,-1", "must be at least 0"),
    ],
)
def test_what_is_refused(text, sentence, capsys):
    with pytest.raises(BadInput) as error:
        load_config(None, [text])
    assert sentence in str(error.value) and "\n" not in str(error.value)
    here = ROOT / "tests" / "test_effort.py"
    assert command(["verify", str(here), str(here), text]) == 2 and sentence in capsys.readouterr().err


def test_groups_made_by_hand_are_checked_too():
    for wrong in ({"leaks": ()}, {"leaks": 3.0}, {"samples": 0}, {"samples": True}, {"momentum": "x"}):
        with pytest.raises(BadInput, match="of AttackEffort must be"):
            AttackEffort(**wrong)
    with pytest.raises(BadInput, match="must be a LeafEffort"):
        Effort(leaf=AttackEffort())
    with pytest.raises(BadInput, match="of a Config is a Effort"):
        Config(effort=LeafEffort())


def test_help_says_one_line_of_it():
    said = subprocess.run([sys.executable, "-m", "partita", "verify", "--help"], capture_output=True, text=True).stdout
    assert said.count("effort") == 2 and "docs/effort.md" in said  # the section's name and the page's


def test_the_header_holds_it_and_a_resumed_run_takes_it(tmp_path):
    from partita.bab.logs.header import config_of

    chosen = load_config(None, {"effort.rows.rounds": 2, "effort.attack.leaks": [0.5]})
    header = {"config": json.loads(json.dumps(asdict(chosen)))}
    assert config_of(header, {"timeout": 3}) == load_config(chosen, {"timeout": 3})
    del header["config"]["effort"]  # of an older version
    assert config_of(header, {}).effort == Effort()
    with pytest.raises(BadInput, match=r"but 'effort\.rows\.rounds' was given"):
        config_of(header, {"effort.rows.rounds": 3})


# ---- the constants of proofs


def numbers_in(path: Path) -> dict[str, ast.expr]:
    """The module's constants."""
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign):
            found |= {target.id: node.value for target in node.targets}
    return found


def test_no_configuration_reaches_a_constant_of_a_proof():
    """The module imports nothing, nobody writes to it, no configuration code reads it, and its values stay."""
    import partita.kernels.proof_constants as proof

    tree = ast.parse(PROOF.read_text(encoding="utf-8"))
    assert not any(
        isinstance(node, ast.Import | ast.ImportFrom | ast.Call | ast.FunctionDef) for node in ast.walk(tree)
    )
    names = set(numbers_in(PROOF))
    assert {"INFLATE", "SIZES", "SUMMED", "ERROR", "DUST", "ROUNDOFF", "RATIO", "TOLERANCE"} <= names
    assert not names & {name.rsplit(".", 1)[-1].upper() for name in efforts()} - {"LARGE"}
    for path in [
        *ROOT.rglob("effort.py"),
        *(ROOT / "bab" / name for name in ("config.py", "effects.py", "strategy.py")),
    ]:
        taken = [n.module for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom) and n.module]
        assert not any(name.endswith("proof_constants") for name in taken), path
    before = {name: getattr(proof, name) for name in names}
    random = Random(0)
    for _ in range(20):
        load_config(None, verdict_cases.efforts(random))
    assert before == {name: getattr(proof, name) for name in names}
    for floor in ("kernels", "problems", "relaxations", "bab"):
        for path in (ROOT / floor).rglob("*.py"):
            if path != PROOF and "proof_constants" in path.read_text(encoding="utf-8"):
                nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
                stored = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
                taken = [n for n in nodes if isinstance(n, ast.ImportFrom) and n.module]
                used = {a.name for n in taken if n.module.endswith("proof_constants") for a in n.names}
                assert not used & stored, path


# ---- verdicts


@pytest.mark.parametrize("seed", range(40))
def test_random_efforts_change_no_verdict(seed):
    """Against the truth in fractions, on networks and properties that are mean; both trees, all relaxations."""
    trial, random = verdict_cases.trial(7000 + seed), Random(seed)
    exists = trial.counterexample() is not None
    chosen = verdict_cases.options(random) | verdict_cases.efforts(random)
    if trial.as_file:
        return
    network = verdict_cases.graph_of(trial.layers)
    _, complaint = fuzz_verdicts.judged(trial, network, chosen, exists, 2.0)
    assert not complaint, (chosen, complaint)


def test_easy_problems_are_decided_whatever_the_effort_of_others():
    """Else the test above would hold of a verifier that never answers."""
    decided = []
    for seed in (0, 2, 5, 6, 7, 8):
        trial, random = verdict_cases.trial(7000 + seed), Random(seed)
        config = load_config(None, verdict_cases.efforts(random))
        decided.append(partita.verify(verdict_cases.graph_of(trial.layers), trial.prop, config=config, timeout=20.0))
    assert sum(said.verdict in ("sat", "unsat") for said in decided) >= len(decided) / 2
