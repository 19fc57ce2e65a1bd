"""Record scripted episodes in the simulated kitchen, as a Minari data set for scripts/prepare_minari.py.

python scripts/make_kitchen_data.py OUT_DIR [--episodes 40] [--seed 0]

The arm pushes the kettle, slides the cabinet open, does both, or moves freely, in turn. Episodes that do not complete
their tasks are recorded again. Pictures are not drawn here. This needs requirements-robotics.txt, and no network.
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "src"))

from preparation.kitchen_recording import record_data_set
from run.door import explain


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR", help="folder of the data set, which must not exist")
    parser.add_argument("--episodes", type=whole, default=40, metavar="N", help="number of episodes (40)")
    parser.add_argument("--seed", type=whole, default=0, metavar="N", help="of motions and sensor noise (0)")
    arguments = parser.parse_args()
    return explain(lambda: record(arguments), "Stopped. Nothing is kept: call it again.")


def record(arguments: argparse.Namespace) -> int:
    recorded = record_data_set(arguments.out_dir, max(1, arguments.episodes), arguments.seed)
    motions = defaultdict(list)
    for name, episode in recorded:
        motions[name].append(episode)
    for name, episodes in motions.items():
        tasks = " and ".join(episodes[0].completed) or "no task"
        steps = sum(map(len, episodes))
        print(f"{name}: {len(episodes)} episodes, {steps} steps, each completes {tasks}")
    print(f"Episodes: {len(recorded)} of {sum(len(episode) for _, episode in recorded):,} steps in {arguments.out_dir}")
    return 0


def whole(word: str) -> int:
    if not word.isdecimal():
        raise argparse.ArgumentTypeError(f"{word} is not a whole number")
    return int(word)


if __name__ == "__main__":
    sys.exit(main())
