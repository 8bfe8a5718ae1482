"""The assignment of a counterexample as text, in the property's own form.

The form is that of VNN-COMP 2023 and later. Soundness: none needed; numbers are printed as they are given.
"""

from __future__ import annotations

from collections.abc import Sequence

from .property import Array, Declaration


def witness_text(x: Sequence[str], y: Array, declaration: Declaration | None = None) -> str:
    """The assignment without the line `sat`: x are decimals (n_in,), y float64 numbers (n_out,).

    Without a declaration the form of version 1.0, `((X_0 0.5)` to `(Y_0 1.25))`; with one that of version 2.0: for
    each tensor a line with name, element type and shape, then one value a line. Outputs are printed so that reading
    them as float64 gives the same value.
    """
    outputs = [repr(float(v)) for v in y]
    if declaration is None:
        pairs = [f"(X_{i} {v})" for i, v in enumerate(x)] + [f"(Y_{i} {v})" for i, v in enumerate(outputs)]
        return "(" + "\n ".join(pairs) + ")"
    lines = []
    for tensor, values in ((declaration.input, x), (declaration.output, outputs)):
        lines.append(f"{tensor.name} {tensor.element_type} [{','.join(map(str, tensor.shape))}]")
        lines.extend(values)
    return "\n".join(lines)
