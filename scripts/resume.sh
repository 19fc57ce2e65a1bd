#!/usr/bin/env bash
# Resumes an interrupted run: the one in the current folder, or ./scripts/resume.sh RUN_DIR. Further arguments override
# settings: ./scripts/resume.sh RUN_DIR common.device=cpu
# It runs the run folder's own copy of the code. For a folder from somebody else, --code installed runs this project's code
# instead; it asks for --trust before it imports other modules that the run's settings name.
set -euo pipefail
home=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
run=$PWD
code=own
options=()
while [[ ${1-} == --* ]]; do
    case $1 in
        --code) code=${2-}; shift ;;
        --code=*) code=${1#*=} ;;
        --trust) options+=(--trust) ;;
        *) code=$1 ;;
    esac
    shift || true
done
if [ "$code" != own ] && [ "$code" != installed ]; then
    echo "error: $code is unknown here: ./scripts/resume.sh [--code installed [--trust]] [RUN_DIR] [NAME=VALUE …]" >&2
    exit 2
fi
if [ $# -gt 0 ] && { [[ $1 != *=* ]] || [ -d "$1" ]; }; then
    run=$1
    shift
fi
[ -f "$run/config/trainer.yaml" ] || run=$home
if [ ! -f "$run/config/trainer.yaml" ] || { [ $code = own ] && [ ! -d "$run/src" ]; } || [ -d "$run/config/agent" ]; then
    echo "error: there is no run here. Name one: ./scripts/resume.sh outputs/YYYY-MM-DD/hh-mm-ss" >&2
    exit 2
fi
if [ $code = installed ] && [ "$home" -ef "$run" ]; then
    echo "error: this is the run's own copy of the code: call scripts/resume.sh of the project." >&2
    exit 2
fi
# $PYTHON, an active environment, or the .venv of the project that contains the run.
python=${PYTHON:-${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/python}}
folder=$(cd "$run" && pwd)
while [ $code = own ] && [ -z "$python" ] && [ "$folder" != / ]; do
    [ -x "$folder/.venv/bin/python" ] && python=$folder/.venv/bin/python
    folder=$(dirname "$folder")
done
[ -n "$python" ] || { [ -x "$home/.venv/bin/python" ] && python=$home/.venv/bin/python; } || python=python3
# The run's own copy of the code, so that it ends as it would have without the interruption.
[ $code = own ] && home=$run
exec "$python" "$home/src/main.py" --resume "$run" ${options[@]+"${options[@]}"} "$@"
