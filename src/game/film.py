"""The window's pictures as a film, made without a window."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from game.view import Field, Playable
from game.window.painter import Painter, to_array
from run.interrupt import Interrupts
from run.media import write_video


def make_film(
    playable: Playable, painter: Painter, path: Path, num_steps: int, fps: int, interrupts: Interrupts
) -> int:
    """Write a film of that many steps, fewer after Ctrl-C or when nothing moves any more; returns their number."""
    rate = Field("fps", fps, 13)
    count = 0

    def pictures() -> Iterator[np.ndarray]:
        nonlocal count
        for _ in tqdm(range(num_steps), path.name):
            if interrupts.received is not None or playable.is_still:
                return
            playable.tick([])
            count += 1
            yield to_array(painter.paint(playable.view(), rate))

    try:
        first = to_array(painter.paint(playable.view(), rate))
        write_video(itertools.chain([first], pictures()), first.shape[:2], path, fps)
    finally:
        playable.close()
    return count
