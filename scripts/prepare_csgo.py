"""Make a data set for training from the published CS:GO recordings (Pearce and Zhu 2022).

python scripts/prepare_csgo.py TAR_DIR OUT_DIR

Unpacks the archives of TAR_DIR into OUT_DIR/full_res and writes small copies of the recordings to
OUT_DIR/low_res/{train,test}. Call it again to resume after an interruption. Then train:

python src/main.py +experiment=csgo static_dataset.path=OUT_DIR
"""

import argparse
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "src"))

from envs.recorded import load_recorded_game
from preparation.archives import unpack
from preparation.recordings import add_options, write_small_copies
from run.config import register_resolvers
from run.door import explain

STOPPED = "Stopped. Call it again to resume."


def main() -> int:
    register_resolvers()
    arguments = parse_arguments()
    return explain(lambda: prepare(arguments), STOPPED)


def prepare(arguments: argparse.Namespace) -> int:
    game = load_recorded_game(arguments.env)
    out, workers = arguments.out_dir, arguments.workers
    count = unpack(arguments.tar_dir, out / "full_res", arguments.removes, workers)
    print(f"Archives: {count} {'unpacked and removed' if arguments.removes else 'unpacked'}")
    counts = write_small_copies(out / "full_res", out / "low_res", game.size, arguments.test_list, workers)
    print(f"Episodes: {counts['train']} to train on, {counts['test']} to test on")
    print(f"Next: python src/main.py +experiment=csgo static_dataset.path={out}")
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tar_dir", type=Path, metavar="TAR_DIR", help="folder of the published .tar files")
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR", help="folder of the data set")
    tars = parser.add_mutually_exclusive_group()
    tars.add_argument("--keep-tars", dest="removes", action="store_false", help="keep the archives (default)")
    tars.add_argument("--remove-tars", dest="removes", action="store_true", help="remove each after it is unpacked")
    parser.set_defaults(removes=False)
    parser.add_argument("--env", default="csgo", metavar="NAME", help="file in config/env with the frames' size (csgo)")
    add_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
