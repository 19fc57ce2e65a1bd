"""Make a data set for training from a Minari data set, such as the robot kitchen.

python scripts/prepare_minari.py DATASET_ID [--size 128] [--gray | --color] [--render replay | states] [--out DIR]

DATASET_ID is the id of a data set on this machine (in MINARI_DATASETS_PATH) or on the Farama server, as
D4RL/kitchen/complete-v2; a folder that holds one; or a published file of pairs, pairs_k5_128x128.pkl. Recorded images
become the frames. Where there are none, frames are drawn from the stored states, or by taking the recorded actions
again. This needs requirements-robotics.txt, and without a display the environment variable MUJOCO_GL (docs/kitchen.md).
Every eleventh episode is test data. Call it again to resume after an interruption.
"""

import argparse
import re
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "src"))

from envs.kitchen import PUBLISHED, QUICK
from preparation.minari_episodes import FrameOptions, count_pairs, write_episodes
from preparation.minari_source import open_minari
from preparation.pairs import is_pair_file, write_pairs
from preparation.recordings import add_options
from run.door import explain

STOPPED = "Stopped. Call it again to resume."


def main() -> int:
    arguments = parse_arguments()
    return explain(lambda: prepare(arguments), STOPPED)


def prepare(arguments: argparse.Namespace) -> int:
    k, workers, look = arguments.k, arguments.workers, QUICK if arguments.quick else PUBLISHED
    options = FrameOptions(arguments.size, not arguments.color, arguments.render, look)
    if is_pair_file(Path(arguments.dataset)):
        path = Path(arguments.dataset)
        out = arguments.out or default_folder(path.stem, options)
        lengths, counts = write_pairs(path, out, options, arguments.test_list)
        pairs = count_pairs(lengths, k)
    else:
        source = open_minari(arguments.dataset)
        pairs = count_pairs(source.lengths, k)
        out = arguments.out or default_folder(source.name, options)
        counts = write_episodes(source, out, options, arguments.test_list, workers)
    print(f"Episodes: {counts['train']} to train on, {counts['test']} to test on, in {out}")
    print(f"Pairs of frames {k} steps apart: {pairs:,}")
    return 0


def default_folder(name: str, options: FrameOptions) -> Path:
    height, width = options.size
    return (
        Path("recordings")
        / f"{re.sub(r'[^-.0-9A-Za-z]+', '_', name)}_{height}x{width}_{'gray' if options.is_grey else 'color'}"
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", metavar="DATASET_ID", help="id, folder or file of pairs")
    parser.add_argument("--k", type=count, default=5, metavar="K", help="steps between the two frames of a pair (5)")
    parser.add_argument(
        "--size", type=size, default=(128, 128), metavar="SIZE", help="128, or 96x128, height first (128)"
    )
    colours = parser.add_mutually_exclusive_group()
    colours.add_argument("--gray", action="store_true", help="grey frames (default)")
    colours.add_argument("--color", action="store_true", help="colour frames")
    parser.add_argument("--render", choices=("replay", "states"), help="how frames are drawn (states, if stored)")
    parser.add_argument("--quick", action="store_true", help="draw small and without shadows, 25 times faster")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the data set (recordings/NAME)")
    add_options(parser)
    return parser.parse_args()


def count(word: str) -> int:
    if not word.isdecimal() or int(word) == 0:
        raise argparse.ArgumentTypeError(f"{word} is not a number of steps")
    return int(word)


def size(word: str) -> tuple[int, int]:
    height, _, width = word.partition("x")
    width = width or height
    if not (height.isdecimal() and width.isdecimal() and 0 < int(height) <= 8192 and 0 < int(width) <= 8192):
        raise argparse.ArgumentTypeError(f"{word} is not a size such as 128 or 96x128, height first")
    return int(height), int(width)


if __name__ == "__main__":
    sys.exit(main())
