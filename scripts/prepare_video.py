"""Make a data set for training from videos of any game, each with a table of the actions taken in it.

python scripts/prepare_video.py VIDEO_DIR OUT_DIR --env GAME

VIDEO_DIR holds, for each recording, a video NAME.mp4 (or .mkv, .avi, .mov, .webm) and a table NAME.csv. The header of
the table names keys and buttons, mouse_x and mouse_y. Then it has a row for each frame: 1 where a key is held, and the
mouse's motion in pixels. config/env/GAME.yaml, or a file of your own (--env path/to/file.yaml), lists the keys and
motions that count as actions. With --full-size, frames are kept in two sizes, to learn an upsampler too. Call it again
to resume after an interruption.
"""

import argparse
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "src"))

from envs import RecordedGameConfig
from envs.recorded import load_recorded_game
from errors import UserError
from preparation.recordings import add_options, write_small_copies
from preparation.videos import list_videos, write_episodes, write_full_size
from run.config import register_resolvers
from run.door import explain

STOPPED = "Stopped. Call it again to resume."


def main() -> int:
    register_resolvers()
    arguments = parse_arguments()
    return explain(lambda: prepare(arguments), STOPPED)


def prepare(arguments: argparse.Namespace) -> int:
    game = load_recorded_game(arguments.env)
    videos, out, workers = list_videos(arguments.video_dir), arguments.out_dir, arguments.workers
    if arguments.full_size is None:
        counts = write_episodes(videos, out / "low_res", game, arguments.test_list, workers)
    else:
        check_factor(arguments.full_size, game)
        write_full_size(videos, out / "full_res", game, arguments.full_size, workers)
        only = {f"{video.stem}.hdf5" for video in videos}
        counts = write_small_copies(out / "full_res", out / "low_res", game.size, arguments.test_list, workers, only)
    print(f"Episodes: {counts['train']} to train on, {counts['test']} to test on, in {out}")
    return 0


def check_factor(full_size: tuple[int, int], game: RecordedGameConfig) -> None:
    """Raise UserError unless the full size is a multiple of the game's."""
    (height, width), (small_height, small_width) = full_size, game.size
    factor = height // small_height
    if factor < 1 or full_size != (factor * small_height, factor * small_width):
        raise UserError(
            f"--full-size {height}x{width} is not a multiple of the game's size {small_height}x{small_width}, "
            f"such as {5 * small_height}x{5 * small_width}."
        )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video_dir", type=Path, metavar="VIDEO_DIR", help="folder of videos and tables")
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR", help="folder of the data set")
    parser.add_argument("--env", required=True, metavar="GAME", help="file in config/env, or path of another")
    parser.add_argument("--full-size", type=size, metavar="HxW", help="also keep frames of this height and width")
    add_options(parser)
    return parser.parse_args()


def size(word: str) -> tuple[int, int]:
    height, _, width = word.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) * int(width) > 0):
        raise argparse.ArgumentTypeError(f"{word} is not a size such as 150x280, height first")
    return int(height), int(width)


if __name__ == "__main__":
    sys.exit(main())
