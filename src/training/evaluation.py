"""How good the world model is on test episodes: losses, and a film of real beside imagined frames."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from data import Batch, Dataset, FullFrames, Replay, Segments, StoredReplay, chunk_episodes
from envs.world_model_env import imagine
from models.diffusion import DiffusionSampler
from run.media import label_columns, write_video
from training.config import TrainerConfig
from training.experience import segment_lengths
from training.parts import Parts

NUM_SCENES = 4


def load_replay(dataset: Dataset, is_static: bool) -> Replay | StoredReplay:
    """A whole data set, in memory if it is the run's own."""
    if is_static:
        return StoredReplay(dataset)
    replay = Replay(torch.device("cpu"))
    for episode in dataset.episodes():
        replay.add_episode(episode)
    return replay


def evaluate_world_model(
    parts: Parts, config: TrainerConfig, replay: Replay | StoredReplay
) -> dict[str, dict[str, float]]:
    """Average metrics of every component but the policy, over every episode in chunks, or some of them."""
    results = {}
    for name, length in segment_lengths(config, parts.agent).items():
        if name == "actor_critic" or name not in parts.components:
            continue
        component = parts.components[name]
        parts.make_room_for(name, is_trained=False)
        full = parts.experience.full.get("test") if name == "upsampler" else None
        chunks = chunk_episodes(replay.episode_lengths, length)
        batches = _batches(replay, full, chunks, component.training.batch_size, config.evaluation.max_batches, name)
        results[name] = component.evaluate(batch.to(parts.device) for batch in batches)
    return results


def film(parts: Parts, config: TrainerConfig, replay: Replay | StoredReplay, path: Path) -> None:
    """Write a film of some scenes, real on the left, imagined under the same actions on the right.

    Scenes follow each other, with the real frames that both sides start from in front. Without an
    episode that is long enough, there is no film.
    """
    n = parts.agent.denoiser.num_steps_conditioning
    num_steps = min(config.evaluation.video_steps, int(replay.episode_lengths.max()) - n)
    if num_steps < 1:
        return
    parts.make_room_for("denoiser", is_trained=False)
    batch = replay.gather(_choose_scenes(replay, n + num_steps)).to(parts.device)
    sampler = DiffusionSampler(parts.agent.denoiser, config.world_model_env.diffusion_sampler)
    given = batch.obs[:, :n]
    imagined = imagine(sampler, given, batch.act[:, : n + num_steps - 1])
    columns = {"real": batch.obs, "imagined": torch.cat((given, imagined), dim=1)}
    frames = label_columns({name: frames.flatten(0, 1) for name, frames in columns.items()})
    write_video(frames, frames.shape[1:3], path)


def _choose_scenes(replay: Replay | StoredReplay, length: int) -> Segments:
    """Scenes spread evenly over all places where a whole one fits."""
    room = np.maximum(0, replay.episode_lengths - length + 1)
    places = np.linspace(0, room.sum() - 1, NUM_SCENES).astype(np.int64)
    episode_ids = np.searchsorted(np.cumsum(room), places, side="right")
    return Segments(episode_ids, places - (np.cumsum(room) - room)[episode_ids], length)


def _batches(
    replay: Replay | StoredReplay,
    full: FullFrames | None,
    segments: Segments,
    batch_size: int,
    max_batches: int | None,
    name: str,
) -> Iterator[Batch]:
    firsts = np.arange(0, len(segments), batch_size)
    if max_batches is not None and len(firsts) > max_batches:
        firsts = firsts[np.linspace(0, len(firsts) - 1, max_batches).astype(np.int64)]
    for first in tqdm(firsts, f"Testing {name}", leave=False, disable=None, delay=1):
        part = slice(first, first + batch_size)
        chosen = Segments(segments.episode_ids[part], segments.starts[part], segments.length)
        yield replace(replay.gather(chosen), full_obs=None if full is None else full.gather(chosen))
