#!/bin/bash
# Installs Partita for the competition: install_tool.sh v1
# Where the chosen interpreter can import it already, nothing is done; else an environment is made in .venv at the
# root of the repository, with the tested versions. Exit code 0: `run_instance.sh` will work.

set -u
: "${PARTITA_PYTHON:=}"
source "$(dirname "${BASH_SOURCE[0]}")/python.sh" "${1:-}"

if "$PYTHON" -c "import partita.bab.commands.main" 2>/dev/null; then
    echo "Partita $("$PYTHON" -m partita --version) is installed already, for $PYTHON"
    exit 0
fi

set -e
"$PYTHON" -m venv "$VENV"
"$VENV/bin/python" -m pip install --quiet --upgrade pip
cd "$ROOT"
"$VENV/bin/python" -m pip install --quiet -c constraints.txt -e ".[all]"
echo "installed Partita $("$VENV/bin/python" -m partita --version) in $VENV"
