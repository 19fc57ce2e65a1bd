"""Make videos of a very small game, each with a table of actions: examples for scripts/prepare_video.py.

python scripts/example_videos.py VIDEO_DIR

The keys w a s d move a box through a room, the mouse moves a mark, and the left button lights up the box. The action
layout is config/env/room.yaml.
"""

import argparse
import csv
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "src"))

import numpy as np
from tqdm import tqdm

from run.media import write_video

HEIGHT, WIDTH = 48, 64
BOX, MARK = 12, 6
SPEED = 4
FPS = 10
COLUMNS = ("w", "a", "s", "d", "left click", "mouse_x", "mouse_y")
MOTIONS = (-8, -4, 0, 4, 8)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video_dir", type=Path, metavar="VIDEO_DIR", help="folder for videos and tables")
    parser.add_argument("--count", type=int, default=22, help="number of videos (22)")
    parser.add_argument("--frames", type=int, default=120, help="frames in each (120)")
    arguments = parser.parse_args()
    arguments.video_dir.mkdir(parents=True, exist_ok=True)
    for number in tqdm(range(arguments.count), "Videos"):
        rows = draw_actions(arguments.frames, np.random.default_rng(number))
        path = arguments.video_dir / f"room_{number:02d}.mp4"
        write_video(play(rows, np.random.default_rng(1000 + number)), (HEIGHT, WIDTH), path, FPS)
        with open(path.with_suffix(".csv"), "w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *rows.tolist()])
    print(f"Videos: {arguments.count} of {arguments.frames} frames in {arguments.video_dir}")
    return 0


def draw_actions(count: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of COLUMNS; an action lasts a few frames."""
    rows = np.zeros((count, len(COLUMNS)), np.int64)
    for step in range(count):
        if step > 0 and rng.random() < 0.7:
            rows[step] = rows[step - 1]
            continue
        vertical, sideways = rng.integers(-1, 2, 2)
        rows[step, :4] = vertical < 0, sideways < 0, vertical > 0, sideways > 0
        rows[step, 4] = rng.random() < 0.2
        rows[step, 5:] = rng.choice(MOTIONS, 2)
    return rows


def play(rows: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """The frames that the player sees before each row's action."""
    box = rng.integers(0, (HEIGHT - BOX, WIDTH - BOX))
    mark = rng.integers(0, (HEIGHT - MARK, WIDTH - MARK))
    is_lit, frames = False, []
    for w, a, s, d, click, mouse_x, mouse_y in rows:
        frames.append(draw(box, mark, is_lit))
        box = np.clip(box + SPEED * np.array((s - w, d - a)), 0, (HEIGHT - BOX, WIDTH - BOX))
        mark = np.clip(mark + np.array((mouse_y, mouse_x)), 0, (HEIGHT - MARK, WIDTH - MARK))
        is_lit = bool(click)
    return frames


def draw(box: np.ndarray, mark: np.ndarray, is_lit: bool) -> np.ndarray:
    frame = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    frame[HEIGHT // 2 :] = (50, 60, 90)
    frame[box[0] : box[0] + BOX, box[1] : box[1] + BOX] = (255, 230, 90) if is_lit else (200, 70, 50)
    frame[mark[0] : mark[0] + MARK, mark[1] : mark[1] + MARK] = 255
    return frame


if __name__ == "__main__":
    sys.exit(main())
