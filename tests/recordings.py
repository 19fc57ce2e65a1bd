"""Recordings in the published CS:GO layout of a very small game: a box that w a s d move over the screen."""

import tarfile
from pathlib import Path

import h5py
import numpy as np

FULL_SIZE = (60, 100)
SMALL_SIZE = (12, 20)
NUM_ACTIONS = 51
KEYS = {"w": (0, (-5, 0)), "a": (1, (0, -5)), "s": (2, (5, 0)), "d": (3, (0, 5))}
NO_MOTION = (13 + 11, 13 + 23 + 7)
"""Entries of an action that are set if the mouse does not move: motion 0 of each axis."""

CSGO = [
    "+experiment=csgo",
    f"env.train.size=[{SMALL_SIZE[0]},{SMALL_SIZE[1]}]",
    "agent.denoiser.inner_model.cond_channels=32",
    "agent.denoiser.inner_model.depths=[1,1]",
    "agent.denoiser.inner_model.channels=[16,16]",
    "agent.denoiser.inner_model.attn_depths=[0,1]",
    "agent.denoiser.inner_model.num_steps_conditioning=2",
    "agent.upsampler.inner_model.cond_channels=16",
    "agent.upsampler.inner_model.depths=[1,1]",
    "agent.upsampler.inner_model.channels=[8,8]",
    "agent.upsampler.inner_model.attn_depths=[0,0]",
    "training.num_final_epochs=2",
    "training.compile=false",
    "evaluation.every=1",
    "evaluation.video_steps=4",
    "denoiser.training.num_autoregressive_steps=1",
    "denoiser.training.steps_first_epoch=4",
    "denoiser.training.steps_per_epoch=3",
    "denoiser.training.batch_size=4",
    "denoiser.training.grad_acc_steps=2",
    "upsampler.training.steps_first_epoch=3",
    "upsampler.training.steps_per_epoch=2",
    "upsampler.training.batch_size=2",
    "upsampler.training.grad_acc_steps=1",
    "checkpointing.save_agent_every=1",
    "common.device=cpu",
    "common.seed=3",
]
"""Settings of a small run on such recordings; `static_dataset.path` has to be added."""


def play(num_steps: int, seed: int, size: tuple[int, int] = FULL_SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Frames uint8 (t, H, W, 3), RGB, and the actions taken at them, (t, 51)."""
    rng = np.random.default_rng(seed)
    place = rng.integers(0, (size[0] - 15, size[1] - 15))
    frames, actions = [], np.zeros((num_steps, NUM_ACTIONS))
    actions[:, NO_MOTION] = 1
    for step in range(num_steps):
        frame = np.full((*size, 3), (30, 60, 120), np.uint8)
        frame[place[0] : place[0] + 15, place[1] : place[1] + 15] = (240, 200, 40)
        frames.append(frame)
        key = rng.choice(list(KEYS))
        entry, motion = KEYS[key]
        actions[step, entry] = 1
        place = np.clip(place + motion, 0, (size[0] - 15, size[1] - 15))
    return np.stack(frames), actions


def write_hdf5(path: Path, num_steps: int, seed: int) -> None:
    """The published layout: BGR frames, the action, and two entries that are not used here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames, actions = play(num_steps, seed)
    with h5py.File(path, "w") as file:
        for step in range(num_steps):
            file[f"frame_{step}_x"] = frames[step][..., ::-1]
            file[f"frame_{step}_xaux"] = np.zeros(54)
            file[f"frame_{step}_y"] = actions[step]
            file[f"frame_{step}_helperarr"] = np.zeros(2)


def write_tars(folder: Path, counts: list[int], num_steps: int = 6) -> list[str]:
    """Archives of that many recordings each; returns the names of all recordings."""
    folder.mkdir(parents=True)
    names, number = [], 1
    for count in counts:
        first, last = number, number + count - 1
        with tarfile.open(folder / f"hdf5_dm_july2021_{first}_to_{last}.tar", "w") as archive:
            for number in range(first, last + 1):
                name = f"hdf5_dm_july2021_{number}.hdf5"
                write_hdf5(folder / name, num_steps, seed=number)
                archive.add(folder / name, arcname=f"./deep/{name}")
                (folder / name).unlink()
                names.append(name)
        number = last + 1
    return names
