#!/usr/bin/env bash
# Makes .venv, then checks style and layering and runs the tests. Arguments go to pytest: ./scripts/test.sh -m "not slow"
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$project/scripts/environment.sh"
make_environment requirements-test.txt
cd "$project"
"$python" -m ruff check .
"$python" -m ruff format --check .
# Two processes; -n 0 is one, as a debugger needs it.
exec "$python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
