"""A fuzzer of imports: random ONNX models, and every accepted import beside onnxruntime, operator by operator.

    python scripts/fuzz_imports.py [--first 0] [--models 40000] [--seconds S] [--out FILE.json] [--failures DIR]

Model k is made from seed k alone (`import_models.py`), so a run may be stopped and taken up: with `--out`, what the
file has already is not done again. An import that the reader accepts is held against onnxruntime at points that the
reader's own comparison does not use:

    operators   each fed onnxruntime's own inputs, as in `problems/onnx/compare.py`, at ten points of several scales
    carried     every tensor of the file, from the input on, with the error bounds carried along
    box         the network read for a small box, at its corners and inside, the same two comparisons
    simplified  the simplified graph beside the other, node by node

Refusals are counted by their reasons. Exit code 1 where an accepted import differs, or the reader dies; the model is
then written to `--failures` with what was seen.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from import_draft import draft, mask
from import_models import extend
from measure.crash import crash
from onnx import ModelProto

from partita.problems.errors import BadInput
from partita.problems.network.apriori import EXACT, Precision, given, judged
from partita.problems.network.builder import Value
from partita.problems.onnx.compare import LARGE, ROUNDING, compare
from partita.problems.onnx.importing import Reading, imported
from partita.problems.onnx.points import general_points
from partita.problems.onnx.runtime import ExposedModel

DOUBT = 64  # unit roundoffs: constants that the file computes may be a few off
SCALES = (1.0, 1.0, 10.0, 300.0, 1e-3, 1e-6, 1e-30, 1e6, 1e20, 1e120)
BOXES = (1e-3, 1.0, 10.0, 300.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--models", type=int, default=40000, help="how many seeds")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--out", type=Path, help="counts, as JSON; taken up where it exists")
    parser.add_argument("--failures", type=Path, default=Path("fuzz-failures"), help="where failing models go")
    options = parser.parse_args()
    torch.set_num_threads(1)
    counts, done, spent = taken_up(options.out)
    start = time.monotonic()
    for seed in range(options.first + done, options.first + options.models):
        if time.monotonic() - start > options.seconds:
            break
        said, model = judged_seed(seed)
        counts[said.split(":")[0] if said.startswith("FAILED") else said] += 1
        if said.startswith("FAILED"):
            options.failures.mkdir(parents=True, exist_ok=True)
            (options.failures / f"{seed}.onnx").write_bytes(model.SerializeToString())
            (options.failures / f"{seed}.txt").write_text(said, encoding="utf-8")
            print(f"seed {seed}: {said.splitlines()[0]}", flush=True)
        done += 1
        if options.out and done % 500 == 0:
            write(options, counts, done, spent + time.monotonic() - start)
    if options.out:
        write(options, counts, done, spent + time.monotonic() - start)
    for said, count in counts.most_common():
        print(f"{count:7d}  {said}")
    return int(any(said.startswith("FAILED") for said in counts))


def taken_up(path: Path | None) -> tuple[Counter[str], int, float]:
    if path is None or not path.exists():
        return Counter(), 0, 0.0
    before = json.loads(path.read_text(encoding="utf-8"))
    return Counter(before["counts"]), before["models"], before["seconds"]


def write(options: argparse.Namespace, counts: Counter[str], done: int, seconds: float) -> None:
    from measure import machine

    report = {"date": machine.now(), "commit": machine.commit(), "hardware": machine.hardware()}
    report |= {"first": options.first, "models": done, "seconds": round(seconds, 1)}
    accepted, failed = counts["accepted"], sum(n for said, n in counts.items() if said.startswith("FAILED"))
    report |= {"accepted": accepted, "failed": failed, "counts": dict(counts.most_common())}
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def written(seed: int) -> ModelProto:
    """The model of this seed: operators one by one, each on the shape that the ones before it left."""
    d, shape, count, source = draft(seed)
    result = shape
    for k in range(count):
        extend(d, result)
        try:
            made = d.model(shape)
            whole = imported(made)
        except BadInput:
            return made  # what is refused is kept: onnxruntime may say that the reader is wrong
        result = tuple(whole.graph.output_shape)
        if not result or np.prod(result) > 4000 or (k < count - 1 and len(result) > 6):
            return made
    if source.random() < 0.3:
        mask(d, result)
    return d.model(shape)


def judged_seed(seed: int) -> tuple[str, ModelProto | None]:
    """accepted, the reason of a refusal, or FAILED with what was seen."""
    made = None
    try:
        with np.errstate(all="ignore"):
            made = written(seed)
            return judge(made.SerializeToString(), seed), made
    except Exception as error:
        return f"FAILED {crash(error)}", made


def judge(data: bytes, seed: int) -> str:
    """`judged_seed`, of a model's bytes."""
    try:
        reading = Reading(data)
        usual = general_points(reading.graph.input_size)
        source = np.random.default_rng(seed)
        points = np.stack([scale * source.normal(size=usual.shape[1]) for scale in SCALES])
        said = differs(reading, np.concatenate([usual, points]))
        if said:  # the reader itself asks at the usual points only
            compare(reading, usual, 60.0)
            return f"FAILED operators: {said}"
        carried(reading, points)
        inside = box(source, usual.shape[1])
        part = reading.on(inside.min(0), inside.max(0))
        if part is not reading:
            said = differs(part, inside)
            if said:
                return f"FAILED box: {said}"
            carried(part, inside)
            if part.graph.neurons > reading.graph.neurons:
                return "FAILED box: the network for a box has more neurons than in general"
    except BadInput as error:
        return reason(str(error))
    except Differs as error:
        return f"FAILED carried: {error}"
    return "accepted"


class Differs(Exception):
    """An accepted import differs from onnxruntime."""


def differs(reading: Reading, points: np.ndarray) -> str:  # (P, n_in)
    """What `compare` says against the import at the points; overflow everywhere is no difference."""
    try:
        compare(reading, points, 60.0)
    except BadInput as error:
        return "" if "NaN or infinity" in str(error) else str(error)
    return ""


def box(source: np.random.Generator, n: int) -> np.ndarray:  # (8, n)
    """Corners and inner points of a random box, float32 numbers."""
    scale = float(source.choice(BOXES))
    centre, radius = scale * source.normal(size=n), scale * source.choice((0.0, 0.01, 1.0, 3.0)) * source.random(n)
    share = np.concatenate([source.integers(0, 2, (4, n)), source.random((4, n))])
    return (centre + (2 * share - 1) * radius).astype(np.float32).astype(np.float64)


def carried(reading: Reading, points: np.ndarray) -> None:  # (P, n_in)
    """Every tensor from the network's input on, with the errors of all operators before it."""
    whole = reading.imported
    if any(step.call.kind == "Cast" for step in whole.steps):
        return  # it rounds without a node of its own, and what copies it then is not exact
    values = {n: r for step in whole.steps for n, r in zip(step.outputs, step.results) if isinstance(r, Value)}
    model = ExposedModel(reading.data, list(values), whole.output)
    with np.errstate(over="ignore"):
        x = torch.from_numpy(points.astype(model.dtype).astype(np.float64))
    runs = [model.run(point) for point in x.numpy()]
    precision = dict.fromkeys(range(len(whole.nodes)), EXACT)
    for step in whole.steps:
        if step.call.kind in ROUNDING:
            precision |= dict.fromkeys(step.nodes, Precision.of(torch.from_numpy(runs[0][whole.output]).dtype, DOUBT))
    found = judged(whole.nodes, range(1, len(whole.nodes)), {0: given(x)}, precision)
    most = LARGE * float(np.finfo(model.dtype).max)
    rows = x.abs().amax(1) < most  # points at which nothing has overflowed yet
    for name, value in values.items():
        theirs = torch.from_numpy(np.stack([run[name].reshape(-1) for run in runs]).astype(np.float64))
        ours = found[value.node]
        rows &= theirs.isfinite().all(1) & (ours.size < most).all(1) & ours.error.isfinite().all(1)
        wrong = ~((ours.value - theirs).abs() <= ours.error) & rows[:, None]
        if wrong.any():
            said = [float(t[wrong][0]) for t in (ours.value, theirs, ours.error)]
            raise Differs(f"'{name}': {said[0]!r} here, {said[1]!r} there, explained {said[2]!r}")
    out, raw = reading.graph(x), found[len(whole.graph.nodes) - 1]
    wrong = ~((out - raw.value).abs() <= raw.error + 1e-12 * raw.size) & rows[:, None]
    if wrong.any():
        raise Differs(f"simplified: {out[wrong].tolist()[:3]} and {raw.value[wrong].tolist()[:3]}")


def reason(said: str) -> str:
    """A refusal without names and numbers."""
    kind = re.match(r"(?:operator )?(\w+) \(node", said)
    said = re.sub(r"'[^']*'", "_", said)
    said = re.sub(r"\(node _\) ?", "", said)
    if "gives another result in onnxruntime" in said:
        return f"differs: {kind.group(1) if kind else ''}"
    if said.startswith("onnxruntime cannot"):
        return "onnxruntime refuses it"
    said = re.sub(r"[-+]?\d[\d.e+-]*|nan|inf", "#", said)
    return f"refused: {re.sub(r'(#, ?)+', '#, ', said)[:110]}"


if __name__ == "__main__":
    sys.exit(main())
