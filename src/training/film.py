"""A film of real frames beside frames imagined under the same actions, and a picture of some of its moments."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from algorithms.base import Reconstructor, World
from data import Experience, Segments
from run.media import label_columns, write_picture, write_video
from training.progress import Progress

NUM_SCENES, NUM_MOMENTS = 4, 8
HEIGHT_IN_PICTURES = 128


def film_world(world: World, test: Experience, video_steps: int, device: torch.device, path: Path) -> bool:
    """Write a film of several scenes: real frames, reconstructed ones if the world makes these, and imagined ones.

    Each scene begins with the real frames that imagination starts from. Beside the film, a PNG of the same name shows
    moments of the first scene. If no episode is long enough, nothing is written; returns whether there is a film.
    """
    n, lengths = world.num_context_steps, test.replay.episode_lengths
    num_steps = min(video_steps, int(lengths.max()) - n)
    if num_steps < 1:
        return False
    batch = test.gather(_choose_scenes(lengths, n + num_steps)).to(device)
    given = batch.between(0, n)
    imagined = world.imagine(given, batch.act[:, n : n + num_steps - 1]).obs
    columns = {"real": batch.obs}
    if isinstance(world, Reconstructor):
        columns["reconstructed"] = world.reconstruct(batch)
    columns["imagined"] = torch.cat((given.obs, imagined), dim=1)
    write_scenes(columns, path)
    moments = torch.linspace(0, n + num_steps - 1, NUM_MOMENTS).long().unique()
    scene = {name: frames[0, moments] for name, frames in columns.items()}
    write_picture(np.concatenate(label_columns(scene, HEIGHT_IN_PICTURES)), path.with_suffix(".png"))
    return True


def film_is_due(interval: int | None, train: Experience, progress: Progress) -> bool:
    """Whether enough steps were collected since the last film (`video_interval`); if so, the next counts from here."""
    num_steps, last = train.dataset.num_steps, progress.filmed_at
    is_due = interval is None or last is None or num_steps // interval > last // interval
    if is_due:
        progress.filmed_at = num_steps
    return is_due


def write_scenes(columns: dict[str, Tensor], path: Path) -> None:
    """Write a video of scenes, uint8 (b, t, c, h, w) in each column, one after another under the columns' names."""
    frames = label_columns({name: scenes.flatten(0, 1) for name, scenes in columns.items()})
    write_video(frames, frames.shape[1:3], path)


def _choose_scenes(episode_lengths: np.ndarray, length: int) -> Segments:
    """Scenes spread evenly over all positions where a whole scene fits."""
    room = np.maximum(0, episode_lengths - length + 1)
    places = np.linspace(0, room.sum() - 1, NUM_SCENES).astype(np.int64)
    episode_ids = np.searchsorted(np.cumsum(room), places, side="right")
    return Segments(episode_ids, places - (np.cumsum(room) - room)[episode_ids], length)
