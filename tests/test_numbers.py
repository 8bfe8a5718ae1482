"""No number hides in a module: constants of proofs stand in one file, how hard a part tries in groups, others here.

A module-level constant or a default that is a number, and not 0, 1 or -1 (starts, neutral elements, absences), is a
constant of a proof (`kernels/proof_constants.py`), a field of a group of `effort` (test_effort.py), or listed below
under the reason why it is neither. Whoever adds one decides which it is.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("kernels", "problems", "relaxations", "bab")
PROOF = "kernels/proof_constants.py"

NEITHER = {
    "what files, texts and logs may hold: beyond it they are refused in a sentence, or written otherwise": {
        "bab/logs/declared.py": "LARGE TOO_LARGE SHOWN",
        "bab/logs/format.py": "FORMAT READABLE MOST_PARTS MOST_ROWS MOST_BYTES MOST_PART",
        "bab/logs/meaning.py": "LONGEST",
        "bab/logs/observer.py": "ROWS",
        "bab/logs/rows.py": "LONGEST NAMED",
        "bab/logs/volumes.py": "WIDEST",
        "problems/onnx/importing.py": "OLDEST_OPSET",
        "problems/properties/cases.py": "LIMIT ATOMS ENTRIES SMALL LARGE",
        "problems/properties/decimals.py": "EXPONENT DIGITS BITS FEW",
        "problems/properties/elements.py": "PLAIN SHORTEST",
        "problems/properties/formula.py": "MANY",
        "problems/properties/vnnlib2.py": "DEEPEST",
        "problems/torch/export.py": "_plain(depth)",
        "problems/torch/written.py": "OPSET NEWER_OPSET",
        "relaxations/options.py": "UNBOUNDED",
        "relaxations/rows/groups.py": "MOST",
    },
    "how much a reader is shown, and when": {
        "bab/attack/disputed.py": "SHOWN",
        "bab/attack/witness.py": "NAMED",
        "bab/commands/count.py": "PERIOD",
        "bab/pages/log.py": "MOST",
        "bab/pages/log_pictures.py": "POINTS COLUMNS WIDE_ENOUGH WIDE",
        "bab/search/report.py": "REPEAT",
        "bab/search/schedule.py": "FIRST_REPORT REPORT_GROWTH LONGEST",
        "relaxations/leaf/rational.py": "in_words(most)",
    },
    "codes, numberings and formats of numbers, of others or of one's own": {
        "bab/attack/table.py": "ABSENT LARGE",
        "bab/commands/arguments.py": "INTERNAL",
        "bab/commands/main.py": "MEMORY",
        "bab/ending/streams.py": "LOST",
        "bab/strategy.py": "FULL_RATE LARGE",
        "bab/trees/splits.py": "INPUT HALF_SPACE PHASE",
        "kernels/bits.py": "WORD FACETS",
        "kernels/memory.py": "M_TRIM_THRESHOLD M_TOP_PAD M_MMAP_THRESHOLD M_MMAP_MAX KEEPING",
        "kernels/double_description.py": "UNITS",
        "kernels/solving/scaling.py": "PASSES MOST",
        "problems/network/exact_network.py": "MANTISSA",
        "problems/onnx/nonlinear.py": "CLOSE",
        "problems/properties/specify.py": "EXACT_WHOLE",
        "relaxations/lp/gurobi.py": "NO_LICENSE TOO_LARGE",
        "relaxations/twins/differences.py": "LEAST",
    },
    "how long a process, a thread, a file or the end of a run is waited for": {
        "bab/commands/answer.py": "STEP CLOSING",
        "bab/commands/verify.py": "LEAST UNLOADED",
        "bab/ending/stopping.py": "PATIENCE LAST",
        "bab/logs/lock.py": "TRIES",
        "bab/logs/observer.py": "CLOSING",
        "bab/logs/writer.py": "FIRST LONGEST BEHIND",
        "bab/running/instances.py": "KILL_AFTER",
        "bab/search/clock.py": "MARGIN GRACE",
        "bab/search/schedule.py": "Schedule.margin",
        "bab/search/state.py": "State.last_attack",
        "kernels/deadline.py": "LEAST counted(rate)",
        "kernels/interrupt.py": "SOON AGAIN",
        "kernels/solving/server.py": "PATIENCE GRACE",
        "kernels/solving/worker.py": "DEATHS SLACK START _CHUNK",
        "problems/torch/written.py": "WRITING",
    },
    "what suits caches, registers and native calls, or one layout of the same numbers better than another": {
        "kernels/blocks.py": "SHORTEST GAP",
        "kernels/dot.py": "BLOCK",
        "kernels/double_description.py": "PAIRS",
        "kernels/exact_program.py": "PRICE GREEDY",
        "kernels/hull.py": "CHUNK",
        "kernels/octahedron.py": "LARGEST",
        "kernels/rows.py": "SPARSE",
        "kernels/threads.py": "NARROW MEDIUM FIRST",
        "kernels/triton/first_order.py": "ENTRIES",
        "kernels/triton/hull.py": "ENTRIES",
        "kernels/triton/slide.py": "ENTRIES",
        "kernels/triton/tile.py": "LANES PROGRAMS ENTRIES HELD",
        "kernels/weak_duality.py": "MOST_LEVELS",
        "kernels/work.py": "MOST DOUBLE",
        "problems/network/compose.py": "TINY SMALL LARGE",
        "problems/network/exact_fold.py": "SMALL",
        "problems/network/graph.py": "LARGE",
        "problems/network/simplify.py": "MANY",
        "problems/onnx/runtime.py": "LARGE CHUNK",
        "relaxations/linear/row_multipliers.py": "SPARSE LISTED",
    },
    "noise and iterations of kernels that choose by floating point, beside offsets that are proved afterwards": {
        "kernels/hull.py": "LEVEL SLOWEST CLOSEST",
        "kernels/octahedron.py": "SPREAD closed(passes)",
        "kernels/vertices.py": "FLAT",
    },
    "how closely files and logs are checked: nobody may make that less": {
        "bab/api.py": "SMALL COMPARED",
        "bab/commands/check.py": "POINTS",
        "bab/logs/check.py": "CLOSE sampled(count)",
        "problems/load.py": "BOXES POINTS",
        "problems/onnx/compare.py": "MOST ROOM CHUNK SECONDS LARGE TWICE",
        "problems/onnx/points.py": "SCALES CORNERS INTERIOR",
        "problems/originals/module_comparison.py": "UNITS MEASURED FEWEST ENDLESS SCALES at_load(seconds) "
        "on_box(points)",
    },
    "counting and measured trees, which are commands with options of their own": {
        "bab/comparing/exact_goal.py": "BRIEF TERMS Notion.tolerance",
        "bab/comparing/grow.py": "MOST",
        "bab/comparing/measured.py": "FLAT",
        "bab/comparing/measures.py": "STEPS BATCH",
        "bab/comparing/partition.py": "GROWING GRACE partition(tolerance)",
        "bab/comparing/pictures.py": "GRID PANELS",
        "bab/comparing/polyhedral.py": "MOST_INPUTS SAME FLAT verified(tolerance)",
        "bab/comparing/proper.py": "MOST_INPUTS PATIENCE",
        "bab/comparing/smallest.py": "MOST WIDE",
        "bab/counting/cells.py": "ROWS VOLUMES",
        "bab/counting/inputs.py": "NARROW",
        "bab/counting/patterns.py": "DIMENSIONS PATIENCE COARSE STRUCTURED",
        "bab/counting/programs.py": "GROUP POINTS DEEP",
        "bab/counting/proof.py": "NUMBERS",
        "bab/counting/search.py": "KEPT PART SEARCH",
        "bab/counting/tree.py": "PART TOLERANCE ENTRIES NUMBERS FINEST",
        "relaxations/studies/chord.py": "greatest_divergence(starts) greatest_divergence(steps)",
    },
    "what functions of networks are": {
        "problems/network/bilinear.py": "AbstractBilinear.arity",
        "problems/network/product.py": "Product.arity",
        "problems/network/activation.py": "STEEP LeakyReLU.slope LeakyReLU.kinks",
        "problems/network/smooth.py": "NEWTON_STEPS AbstractSShaped.turns Sigmoid.kernel_error Sigmoid.scale "
        "Sigmoid.amplitude Sigmoid.offset Tanh.kernel_error",
    },
    "ordinary options, and arguments that are always given": {
        "relaxations/bound.py": "bound(steps)",
        "relaxations/ladder/multi_neuron.py": "GroupHull.k",
        "relaxations/protocol.py": "Means.steps",
    },
}


def numeric(node: ast.expr) -> bool:
    """Whether an expression consists of numbers alone."""
    match node:
        case ast.Constant():
            return type(node.value) in (int, float)
        case ast.UnaryOp():
            return numeric(node.operand)
        case ast.BinOp():
            return numeric(node.left) and numeric(node.right)
        case ast.Tuple() | ast.List():
            return bool(node.elts) and all(map(numeric, node.elts))
        case ast.Dict():
            return bool(node.values) and all(map(numeric, node.values))
    return False


def says(node: ast.expr | None) -> bool:
    """Whether it is a number that says something."""
    if node is None or not numeric(node):
        return False
    try:
        return ast.literal_eval(node) not in (0, 1, -1)
    except ValueError:  # arithmetic
        return True


def numbers(tree: ast.Module) -> Iterator[str]:
    """The constants of a module, the fields of its classes and the arguments of its functions that are numbers."""
    for node in ast.walk(tree):
        owner = "" if node is tree else f"{node.name}." if isinstance(node, ast.ClassDef) else None
        for statement in node.body if owner is not None else ():
            if isinstance(statement, ast.Assign | ast.AnnAssign) and says(statement.value):
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                yield from (owner + n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            given, name = node.args, getattr(node, "name", "lambda")
            last = [*given.posonlyargs, *given.args][-len(given.defaults) or None :]
            for argument, default in [*zip(last, given.defaults), *zip(given.kwonlyargs, given.kw_defaults)]:
                if says(default):
                    yield f"{name}({argument.arg})"


def listed() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for files in NEITHER.values():
        for file, names in files.items():
            found.setdefault(file, []).extend(names.split())
    return found


def test_every_number_is_of_a_proof_an_effort_or_argued():
    there = {}
    for floor in FLOORS:
        for path in (ROOT / floor).rglob("*.py"):
            file = path.relative_to(ROOT).as_posix()
            if file != PROOF and (names := sorted(set(numbers(ast.parse(path.read_text(encoding="utf-8")))))):
                there[file] = names
    known = {file: sorted(set(names)) for file, names in listed().items()}
    for file in sorted(there.keys() | known.keys()):
        assert there.get(file, []) == known.get(file, []), f"{file}: see the module's docstring"


def test_none_is_listed_twice():
    for file, names in listed().items():
        assert len(names) == len(set(names)), file


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A = 3", ["A"]),
        ("A: float = -2.5", ["A"]),
        ("A, B = 2, 0.5", ["A", "B"]),
        ("A = {'x': 1 << 20}", ["A"]),
        ("A = (0.5, 0.25)", ["A"]),
        ("class C:\n    a: int = 7\n    def f(self, x=2.0): ...", ["C.a", "f(x)"]),
        ("def f(a, b=4, *, c=1e-6, d=None): ...", ["f(b)", "f(c)"]),
        ("f = lambda x=9: x", ["lambda(x)"]),
        ("A = 0\nB = -1.0\nC = True\nD = None\nE = 'x'\nF = g(3)\ndef f(a, b=1): ...", []),
    ],
)
def test_the_reader_of_numbers_sees_them(text, found):
    assert list(numbers(ast.parse(text))) == found
