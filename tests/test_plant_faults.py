"""The list of planted faults does not rot, and the script tells what tests notice from what they do not."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import plant_faults

ROOT = plant_faults.ROOT
FAULTS = plant_faults.faults()


def parts(tree: ast.Module, text: str, made: str, start: int, old: str, new: str) -> tuple[str, str]:
    """The top-level statements of a file that the change reaches into, before and after it, without their places."""
    first = text[:start].count("\n") + 1
    inside = [node for node in tree.body if node.end_lineno >= first and node.lineno <= first + old.count("\n")]
    low, high = min(min((d.lineno for d in _decorators(n)), default=n.lineno) for n in inside), inside[-1].end_lineno
    more = new.count("\n") - old.count("\n")
    after = "\n".join(made.split("\n")[low - 1 : high + more])
    return "".join(ast.dump(node) for node in inside), "".join(ast.dump(node) for node in ast.parse(after).body)


def _decorators(node: ast.stmt) -> list[ast.expr]:
    return getattr(node, "decorator_list", [])


def test_every_fault_can_be_planted():
    """Its text occurs exactly once in today's code, what stands there instead is Python and something else."""
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in {fault.file for fault in FAULTS}}
    trees = {name: ast.parse(text) for name, text in texts.items()}
    wrong = []
    for fault in FAULTS:
        text = texts[fault.file]
        try:
            made = plant_faults.replaced(fault, text)
            before, after = parts(trees[fault.file], text, made, text.index(fault.old), fault.old, fault.new)
        except (ValueError, SyntaxError) as error:
            wrong.append(f"{fault.title}: {error}")
            continue
        if before == after:
            wrong.append(f"{fault.title}: changes nothing")
    assert not wrong, "\n".join(wrong)


def test_a_fault_that_changes_nothing_is_told_apart():
    text = "a = 1\n\n\n@cache\ndef f(x):\n    return x + 1  # more\n\n\nb = 2\n"
    tree = ast.parse(text)
    for old, new, same in (
        ("  # more", "", True),
        ("x + 1", "(x + 1)", True),
        ("x + 1", "x", False),
        ("(x)", "(y)", False),
        ("@cache\n", "", False),
        ("b = 2", "c = 2", False),
        ("    return x + 1  # more", "    y = x + 1\n    return y", False),
    ):
        before, after = parts(tree, text, text.replace(old, new), text.index(old), old, new)
        assert (before == after) is same, old


def test_no_fault_stands_twice():
    times = Counter((fault.file, fault.old, fault.new) for fault in FAULTS)
    assert not [fault for fault, count in times.items() if count > 1]


def test_every_fault_has_tests_that_exist():
    for fault in FAULTS:
        assert fault.tests, fault.title
        for test in fault.tests:
            name, _, inside = test.partition("::")
            text = (ROOT / "tests" / name).read_text(encoding="utf-8")
            assert not inside or f"def {inside.split('[')[0]}(" in text or f"class {inside}(" in text, test


def test_the_list_is_long_and_wide_and_argues_little():
    files = Counter(fault.file for fault in FAULTS)
    assert len(FAULTS) >= 150 and len(files) >= 50
    assert {Path(file).parts[0] for file in files} == {"kernels", "problems", "relaxations", "bab"}
    argued = [fault for fault in FAULTS if fault.equivalent]
    assert len(argued) <= 0.05 * len(FAULTS) and all(len(fault.equivalent.split()) > 5 for fault in argued)


FIRST = ["test_rounding_terms.py::test_gamma_is_the_bound_of_the_books"]
ENTRY = """
[[fault]]
file = "kernels/rounding.py"
old = "return nu / (1 - nu)"
new = "{new}"
tests = {tests}
{more}
"""


def asked(folder: Path, *arguments: str, entries: str = "") -> subprocess.CompletedProcess:
    """The script on a list of its own."""
    (folder / "lists").mkdir(exist_ok=True)
    (folder / "lists" / "some.toml").write_text(entries, encoding="utf-8")
    command = [sys.executable, str(ROOT / "scripts" / "plant_faults.py"), "--lists", str(folder / "lists")]
    command += ["--results", str(folder / "results.json"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


def test_two_faults_are_planted_and_one_is_noticed(tmp_path):
    """Half is too few, argued or not; what is known is not run again."""
    for sentence in ("", 'equivalent = "parentheses around a number change nothing at all"'):
        entries = ENTRY.format(new="return nu", tests=FIRST, more="")
        entries += ENTRY.format(new="return (nu) / (1 - (nu))", tests=FIRST, more=sentence)
        said = asked(tmp_path, entries=entries)
        assert said.returncode == 1, said.stderr
        assert "noticed: 1 of 2 (50.0 %)" in said.stdout and "survived: " in said.stdout
        assert ("| kernels/rounding.py | 2 | 1 | 0 | 0 | 1 |" if sentence else "| 2 | 1 | 1 | 0 | 0 |") in said.stdout
        assert "2 known already" in said.stderr if sentence else "test_rounding_terms.py::test_gamma" in said.stderr
    said = asked(tmp_path, "--number", "0", entries=entries)
    assert said.returncode == 0 and "noticed: 1 of 1 (100.0 %)" in said.stdout


def test_a_hang_is_not_noticed_and_is_ended(tmp_path):
    """A process that must be killed says nothing about the tests; tests that fail as the code is say nothing either."""
    entry = ENTRY.format(new="while True: pass", tests=FIRST, more="")
    said = asked(tmp_path, "--seconds", "6", "--unchecked", entries=entry)
    assert said.returncode == 1 and "noticed: 0 of 1" in said.stdout and "hung: " in said.stdout, said.stderr
    said = asked(tmp_path, entries=ENTRY.format(new="return nu", tests=["test_that_is_not_there.py"], more=""))
    assert said.returncode != 0 and "noticed" not in said.stdout


def test_enough_must_be_noticed_and_the_rest_argued():
    noticed, survived = plant_faults.Result("noticed"), plant_faults.Result("survived")
    twenty = [plant_faults.Fault(n, "a.py", "a", "b", ("t",)) for n in range(19)]
    for sentence, few, good in (("because", [], True), ("", [], False), ("because", twenty[:18], False)):
        last = plant_faults.Fault(19, "a.py", "a", "b", ("t",), sentence)
        chosen = [*(few or twenty), last]
        results = {f.number: noticed for f in chosen} | {19: survived}
        assert plant_faults.good(chosen, results) is good


def test_the_command_line_lists():
    command = [sys.executable, str(ROOT / "scripts" / "plant_faults.py"), "--file", "kernels/rounding", "--list"]
    said = subprocess.run(command, capture_output=True, text=True)
    assert said.returncode == 0 and len(said.stdout.splitlines()) == sum("kernels/rounding" in f.file for f in FAULTS)
