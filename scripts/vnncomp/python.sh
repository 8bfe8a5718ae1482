# Sourced by the three scripts: checks the protocol's version and chooses the interpreter that runs Partita.
# PARTITA_PYTHON, where set, wins over the environment that install_tool.sh makes, which wins over python3.

if [ "$1" != "v1" ]; then
    echo "expected protocol version v1 as the first argument, got '$1'" >&2
    exit 1
fi

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
VENV="$ROOT/.venv"
if [ -n "$PARTITA_PYTHON" ]; then
    PYTHON="$PARTITA_PYTHON"
elif [ -x "$VENV/bin/python" ]; then
    PYTHON="$VENV/bin/python"
else
    PYTHON=python3
fi
