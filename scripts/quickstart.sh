#!/usr/bin/env bash
# Makes .venv, then trains a small world model and an agent inside it on Atari's Freeway, in five minutes of two cores, and
# lets the agent play beside the random policy.
# Further arguments override settings: ./scripts/quickstart.sh env.train.id=PongNoFrameskip-v4
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$project/scripts/environment.sh"
make_environment requirements.txt
cd "$project"
run=outputs/$(date +%Y-%m-%d/%H-%M-%S)
for word in "$@"; do
    [[ $word != hydra.run.dir=* ]] || run=${word#hydra.run.dir=}
done
"$python" src/main.py +experiment=quickstart "$@" "hydra.run.dir=$run"
echo
exec "$python" src/evaluate.py "$run" --episodes 20
