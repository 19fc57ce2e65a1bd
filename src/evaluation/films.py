"""Films of episodes."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from data import Episode
from run.media import label_columns, write_video

FRAMES_AT_ONCE = 200


def record_films(folder: Path, name: str) -> Callable[[Episode, int | None], int]:
    """A function that writes each episode to `<folder>/<name>_episode_<number>.mp4`; returns its number.

    Frames are enlarged, under the episode's number and return.
    """
    count = 0

    def write(episode: Episode, _: int | None) -> int:
        nonlocal count
        film = _pictures(episode, f"episode {count}, return {episode.total_reward:g}")
        first = next(film)
        path = folder / f"{name}_episode_{count:03d}.mp4"
        write_video(itertools.chain([first], film), first.shape[:2], path)
        count += 1
        return count - 1

    return write


def _pictures(episode: Episode, title: str) -> Iterator[np.ndarray]:
    frames = torch.cat((episode.obs, episode.info["final_observation"][None]))
    for part in frames.split(FRAMES_AT_ONCE):
        yield from label_columns({title: part})
