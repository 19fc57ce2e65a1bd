#!/usr/bin/env bash
# Makes .venv, then trains a small world model and an agent inside it on Atari Breakout, in about five minutes.
# Further arguments override settings: ./scripts/quickstart.sh env.train.id=PongNoFrameskip-v4
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$project/scripts/environment.sh"
make_environment requirements.txt
cd "$project"
exec "$python" src/main.py +experiment=quickstart "$@"
