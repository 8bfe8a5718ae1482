#!/bin/bash
# Verifies one instance: run_instance.sh v1 CATEGORY ONNX VNNLIB RESULTS_FILE TIMEOUT
# RESULTS_FILE gets sat (with the witness), unsat, unknown or timeout. Exit code 0 for each of these; anything else
# is an error and leaves RESULTS_FILE as it was. `exec`: the runner's signals reach the verifier itself.

set -u
: "${PARTITA_PYTHON:=}"
source "$(dirname "${BASH_SOURCE[0]}")/python.sh" "${1:-}"
if [ $# -lt 6 ]; then
    echo "usage: run_instance.sh v1 CATEGORY ONNX VNNLIB RESULTS_FILE TIMEOUT" >&2
    exit 1
fi

exec "$PYTHON" -m partita verify "$3" "$4" --config competition --results "$5" --timeout "$6"
