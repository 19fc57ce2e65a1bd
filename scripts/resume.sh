#!/usr/bin/env bash
# Resumes an interrupted run: the one in the current folder, or ./scripts/resume.sh RUN_DIR. Further arguments override
# settings: ./scripts/resume.sh RUN_DIR common.device=cpu
set -euo pipefail
home=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
run=$PWD
if [ $# -gt 0 ] && [[ $1 != *=* ]]; then
    run=$1
    shift
fi
[ -f "$run/config/trainer.yaml" ] || run=$home
if [ ! -f "$run/config/trainer.yaml" ] || [ ! -d "$run/src" ] || [ -d "$run/config/agent" ]; then
    echo "error: there is no run here. Name one: ./scripts/resume.sh outputs/YYYY-MM-DD/hh-mm-ss" >&2
    exit 2
fi
# $PYTHON, an active environment, or the .venv of the project that contains the run.
python=${PYTHON:-${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/python}}
folder=$(cd "$run" && pwd)
while [ -z "$python" ] && [ "$folder" != / ]; do
    [ -x "$folder/.venv/bin/python" ] && python=$folder/.venv/bin/python
    folder=$(dirname "$folder")
done
[ -n "$python" ] || { [ -x "$home/.venv/bin/python" ] && python=$home/.venv/bin/python; } || python=python3
# The run's own copy of the code, so that it ends as it would have without the interruption.
exec "$python" "$run/src/main.py" --resume "$run" "$@"
