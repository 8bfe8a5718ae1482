"""What studies leave on disk: a JSON file and pictures for each, and the one document of all, `theory.md`.

    DIR/NAME.json, DIR/NAME.md, DIR/*.svg         of one study (`partita study NAME --out DIR`)
    DIR/theory.md, DIR/theory/NAME.json, *.svg    of all (`partita study all --out DIR`)

The document is put together from the JSON files; its first paragraph says on what and when they ran. It is written anew
after every study, so that a run that is cut short leaves those that ended, and can be taken up there.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from partita.bab.ending.results import write_atomically

from .table import Study

ORDER = ("barrier", "padding", "smooth_barrier", "copied_inputs", "maximum", "complexity", "encodings")
OPENING = """# The theory, run as experiments

Every table here is computed by the command beside it; `{command}` computes all of them and writes this file. Times \
apart, the same seed gives the same numbers on the same processor and versions; networks that are fitted (tanh and \
sigmoid) come out a little differently elsewhere. The networks are in `problems/network/library.py`, the studies in \
`scripts/studies/`. Each section ends with what was confirmed, what was refuted and what stays open, in sentences that \
are chosen by the numbers above them: what they say is said of the networks in the tables.

Three conventions hold in all sections. *Intervals*: linear programs (triangle, k-relu, m-K, p-R) take pre-activation \
intervals that are tightened layer by layer, by two programs for each undecided neuron over everything that the \
relaxation says of the layers before; a column that takes CROWN's intervals says so. ibp, deeppoly, crown and \
alpha-crown find their own, and chords name theirs. *Leaves*: proper ones count, whose half-open version (z <= 0 for \
inactive and z > 0 for active neurons) has an interior relative to the affine hull of the input set; leaves that are \
empty or flat, or have an interior only with z >= 0, are counted apart. *Exactness* is that of the outputs, within \
1e-6, unless a table names another goal. Not covered: lemma 3.1, the necessity half of proposition 5.3, and the worst \
case over networks and input sets.

{origin}
"""


def ordered(names: Sequence[str]) -> list[str]:
    """The studies in the order of the theory's statements, others after them by name."""
    return sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def save(study: Study, folder: Path, figures: str = ".") -> None:
    """One study's JSON, Markdown section and pictures."""
    data(study, folder)
    write_atomically(folder / f"{study.name}.md", study.markdown(figures))


def data(study: Study, folder: Path) -> None:
    """One study's JSON and pictures."""
    study.save_figures(folder)
    text = json.dumps(study.data(), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / f"{study.name}.json", text + "\n")


def kept(name: str, folder: Path) -> Study | None:
    """The study that an earlier run left in `folder`, if one did, whole, with its pictures."""
    try:
        study = Study.of(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return study if all((folder / figure).is_file() for figure in study.figures) else None


def document(studies: Sequence[Study], command: str) -> str:
    """theory.md as text; pictures are linked in `theory/`."""
    contents = "\n".join(
        f"{k}. [{study.title}](#{_anchor(study.title)}) ({study.seconds:.0f} s)" for k, study in enumerate(studies, 1)
    )
    sections = [study.markdown("theory") for study in studies]
    return "\n".join([OPENING.format(command=command, origin=origin(studies)), contents + "\n", *sections])


def origin(studies: Sequence[Study]) -> str:
    """When, on what, with what, in how much time."""
    import torch

    total = sum(study.seconds for study in studies)
    bench = "PARTITA_BENCH named" if os.environ.get("PARTITA_BENCH") else "PARTITA_BENCH did not name"
    return (
        f"Written on {date.today().isoformat()} on {os.cpu_count()} cores, {torch.get_num_threads()} of them for "
        f"PyTorch; Python {platform.python_version()}, torch {torch.__version__}. {len(studies)} studies, {total:.0f} "
        f"s in all, wall time beside whatever else ran (load average {os.getloadavg()[0]:.0f} at the end). "
        f"The variable {bench} a folder of VNN-COMP instances, from which benchmark networks are taken."
    )


def _anchor(title: str) -> str:
    """GitHub's anchor of a heading."""
    kept = "".join(c for c in title.lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")
