"""Data sets of this project made from Minari data sets."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data import Episode
from data.full_frames import FILE_ID
from envs.gymnasium_env import is_image
from envs.kitchen import PUBLISHED, Look
from envs.pictures import to_frames
from errors import UserError
from preparation.minari_source import MinariEpisode, MinariSource, actions_of
from preparation.recordings import (
    check_space,
    choose_test_names,
    finish_datasets,
    is_done,
    place_episodes,
    raise_mistakes,
    remove_parts,
    run_jobs,
)
from preparation.rendering import Render, Renderer

COMPLETIONS = "first_completions"
"""The entry of an episode's `info` with the step that first completed each task."""


@dataclass(frozen=True)
class FrameOptions:
    """Frames of `size`, grey or in colour. `render` and `look`: how they are drawn where no images are stored."""

    size: tuple[int, int]
    is_grey: bool = True
    render: Render | None = None
    look: Look = PUBLISHED

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1 if self.is_grey else 3), *self.size


def write_episodes(
    source: MinariSource, out: Path, options: FrameOptions, test_list: Path | None, num_workers: int
) -> dict[str, int]:
    """Write each episode, whole and in order, to the data sets `train` and `test` in a folder.

    Recorded images are used where observations are images; other frames are drawn. Episodes that were made before
    with the same options are kept. Returns the number of episodes in each data set.
    """
    lengths = source.lengths
    names = [f"episode_{index}" for index in range(len(lengths))]
    test_names = choose_test_names(names, test_list)
    check_space(out, int(1.1 * (sum(lengths) + len(lengths)) * np.prod(options.shape)))
    _check(source, options)
    remove_parts(out)
    paths, num_episodes = place_episodes(out, names, test_names)
    jobs = [functools.partial(_write, source.data, index, path, options) for index, path in enumerate(paths)]
    raise_mistakes(run_jobs(jobs, "Making episodes", num_workers))
    return finish_datasets(out, num_episodes)


def count_pairs(lengths: list[int], k: int) -> int:
    """The number of pairs of frames that are k steps apart; raises UserError if every episode is too short for one."""
    longest = max(lengths)
    if longest <= k:
        raise UserError(
            f"--k {k} is longer than every episode: the longest has {longest} steps, so use less than that."
        )
    return sum(max(0, length - k) for length in lengths)


def _check(source: MinariSource, options: FrameOptions) -> None:
    """Raise UserError for what would fail in every episode."""
    first = source.load(0)
    actions_of(first, source.action_space)
    images = _find_images(first.observations, source.observation_space)
    if images is not None:
        to_frames(images[:1], options.size, options.is_grey)
    else:
        renderer = Renderer(source.name, source.environment, options.look)
        renderer.draw(first, options.render, 0)
        renderer.close()


def _write(data: Path, index: int, path: Path, options: FrameOptions) -> None:
    source = MinariSource(data)
    stored = source.load(index)
    images = _find_images(stored.observations, source.observation_space)
    made_from = f"{source.name} episode {index}"
    if images is None:
        made_from += f" ({options.render or 'drawn'}, {options.look})"
    if is_done(path, made_from, source.modified, options.shape):
        return
    pictures = images if images is not None else _draw(source, stored, index, options)
    frames = torch.cat([to_frames(picture[None], options.size, options.is_grey) for picture in pictures])
    info: dict[str, Any] = {FILE_ID: made_from, "final_observation": frames[-1]}
    if completions := stored.first_completions():
        info[COMPLETIONS] = completions
    act = actions_of(stored, source.action_space)
    Episode(frames[:-1], act, stored.rew, stored.end, stored.trunc, info).save(path)


def _draw(source: MinariSource, stored: MinariEpisode, index: int, options: FrameOptions) -> Iterator[np.ndarray]:
    renderer = Renderer(source.name, source.environment, options.look)
    # An episode whose seed was not kept gets the same one every time.
    yield from renderer.draw(stored, options.render, seed=index)
    renderer.close()


def _find_images(observations: Any, space: Any) -> np.ndarray | None:
    """The recorded images (n + 1, …): the observations, or the first of their entries that are images."""
    if is_image(space):
        return observations
    if isinstance(observations, dict):
        found = (_find_images(each, space[name]) for name, each in observations.items())
        return next((images for images in found if images is not None), None)
    return None
