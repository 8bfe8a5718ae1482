"""The forms in which an input set is given to the Python API, read as polytopes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import BadInput
from .load import load_property_for
from .network.graph import Graph
from .properties.handmade import polytope_of
from .properties.property import Polytope, Property
from .properties.specify import numbers

InputSet = Polytope | Property | Sequence[Polytope] | tuple[Any, Any] | str | Path


def polytopes_of(graph: Graph, input_set: InputSet) -> list[Polytope]:
    """The input polytopes, each once: of a property, of its file, of arrays (lower, upper), or as they are.

    Raises `BadInput` for anything else, for other than the network's number of inputs, and where there are none.
    """
    match input_set:
        case Polytope():
            found = [input_set]
        case Property() | str() | Path():
            found = [case.inputs for case in load_property_for(graph, input_set).cases]
        case [*parts] if parts and all(isinstance(p, Polytope) for p in parts):
            found = list(parts)
        case [lower, upper]:
            found = [box(lower, upper)]
        case _:
            raise BadInput("an input set is a Polytope or several, a Property or its file, or arrays (lower, upper)")
    if not found:
        raise BadInput("the input set is empty: the property has no case that an input satisfies")
    found = [polytope_of(p, graph.input_size) for p in found]
    unique = {b"|".join(a.tobytes() for a in (p.lower, p.upper, p.normals, p.offsets)): p for p in found}
    return list(unique.values())


def box(lower: Any, upper: Any) -> Polytope:
    """Arrays (lower, upper) of any shape, flattened in row-major order; `BadInput` where they hold no numbers."""
    sides = {"lower": lower, "upper": upper}
    low, high = (numbers(f"{what} of the input set", side).reshape(-1) for what, side in sides.items())
    return Polytope(low, high)
