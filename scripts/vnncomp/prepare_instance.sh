#!/bin/bash
# Prepares one instance: prepare_instance.sh v1 CATEGORY ONNX VNNLIB
# Reads both files as the run will, which also brings the libraries into the page cache; no bound is computed.
# Exit code 0: go on. Anything else: skip this instance, Partita refuses it (the sentence on standard error says why).

set -u
: "${PARTITA_PYTHON:=}"
source "$(dirname "${BASH_SOURCE[0]}")/python.sh" "${1:-}"
if [ $# -lt 4 ]; then
    echo "usage: prepare_instance.sh v1 CATEGORY ONNX VNNLIB" >&2
    exit 1
fi

exec "$PYTHON" - "$3" "$4" <<'END'
import signal
import sys

signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interrupt ends it without a traceback
from partita.bab.api import load
from partita.problems.errors import BadInput

try:
    load(*sys.argv[1:])
except BadInput as error:
    sys.exit(f"partita: {error}")
END
