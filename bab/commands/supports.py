"""`partita supports`: what can be read, in the words of the VNN-LIB standard."""

from __future__ import annotations

from ...problems.errors import BadInput


def run(argv: list[str]) -> int:
    topics = ("onnx-operators", "vnnlib-versions", "onnx-element-types")
    topic = argv[0].removeprefix("--") if len(argv) == 1 else ""
    if topic in ("h", "-h", "help"):
        print(f"usage: partita supports {'|'.join(topics)}")
        return 0
    if topic not in topics:
        raise BadInput(f"partita supports takes one of {', '.join(topics)}")
    lines: tuple[str, ...]
    if topic == "vnnlib-versions":
        from ...problems.properties.vnnlib import VERSIONS

        lines = VERSIONS
    elif topic == "onnx-operators":
        from ...problems.onnx.file import SUPPORTED_OPERATORS

        lines = SUPPORTED_OPERATORS
    else:
        from ...problems.onnx.file import SUPPORTED_ELEMENT_TYPES

        lines = SUPPORTED_ELEMENT_TYPES
    print("\n".join(lines))
    return 0
