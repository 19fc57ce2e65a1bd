"""Running the real program from tests: command lines, small settings, and what a run left behind."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from conftest import PROJECT
from files import load_tensors

SMALL_NETWORKS = [
    "agent.denoiser.inner_model.cond_channels=16",
    "agent.denoiser.inner_model.depths=[1,1]",
    "agent.denoiser.inner_model.channels=[8,8]",
    "agent.denoiser.inner_model.attn_depths=[0,0]",
    "agent.denoiser.inner_model.num_steps_conditioning=2",
    "agent.rew_end_model.lstm_dim=16",
    "agent.rew_end_model.cond_channels=16",
    "agent.rew_end_model.depths=[1,1]",
    "agent.rew_end_model.channels=[8,8]",
    "agent.rew_end_model.attn_depths=[0,0]",
    "agent.actor_critic.lstm_dim=16",
    "agent.actor_critic.channels=[8,8]",
    "agent.actor_critic.down=[1,1]",
    "world_model_env.horizon=4",
    "world_model_env.num_batches_to_preload=8",
    "actor_critic.actor_critic_loss.backup_every=5",
    "world_model_env.diffusion_sampler.num_steps_denoising=1",
]

SHORT_SCHEDULE = [
    "collection.train.num_steps_total=70",
    "collection.train.first_epoch.min=40",
    "collection.train.first_epoch.max=40",
    "collection.train.steps_per_epoch=15",
    "collection.test.num_envs=2",
    "collection.test.num_episodes=2",
    "collection.test.num_final_episodes=2",
    "training.num_final_epochs=1",
    "evaluation.every=2",
    "evaluation.video_steps=4",
    "denoiser.training.steps_first_epoch=4",
    "denoiser.training.steps_per_epoch=3",
    "denoiser.training.batch_size=4",
    "rew_end_model.training.steps_first_epoch=4",
    "rew_end_model.training.steps_per_epoch=3",
    "rew_end_model.training.batch_size=4",
    "actor_critic.training.steps_first_epoch=4",
    "actor_critic.training.steps_per_epoch=3",
    "actor_critic.training.batch_size=4",
    "checkpointing.save_agent_every=2",
    "training.compile=false",
    "common.device=cpu",
    "common.seed=3",
]

BREAKOUT = ["env.train.id=BreakoutNoFrameskip-v4", "env.train.size=16", "env.test.max_episode_steps=40"]
CHASE = ["env=gym", "env.train.id=pixel_game:Chase-v0", "env.train.size=16"]


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, str(PROJECT / "src" / "main.py"), *map(str, arguments)]


def environment() -> dict[str, str]:
    """The environment of a user who installed nothing but the requirements, with the tests' games on the path."""
    # One thread: numbers must not depend on how a busy machine splits work.
    path = os.pathsep.join(str(PROJECT / "tests" / folder) for folder in ("learning", "algorithms"))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def run(
    arguments: list[str | Path], cwd: Path | None = None, timeout: float = 300, **env: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, cwd=cwd, env={**environment(), **env}, capture_output=True, text=True, timeout=timeout
    )


def train(folder: Path, *overrides: str, game: list[str] = BREAKOUT, **env: str) -> subprocess.CompletedProcess[str]:
    """Train with small networks and a short schedule in `folder`."""
    settings = [*game, *SMALL_NETWORKS, *SHORT_SCHEDULE, *overrides, f"hydra.run.dir={folder}"]
    return run(command(*settings), **env)


def resume(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return run([PROJECT / "scripts" / "resume.sh", folder, *overrides], PYTHON=sys.executable)


def metrics(folder: Path) -> list[dict[str, float]]:
    """The lines of the log, without what depends on the clock."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timeless = [{name: value for name, value in line.items() if not name.startswith("time/")} for line in lines]
    return [line for line in timeless if len(line) > 1]


def content(folder: Path) -> dict[str, Any]:
    """All that two equal runs must share: the state, the weights, the data sets, and the metrics."""
    files = sorted(folder.glob("dataset/*/**/*.pt")) + sorted(folder.glob("checkpoints/**/*.pt"))
    return {
        "metrics": metrics(folder),
        **{str(path.relative_to(folder)): _comparable(load_tensors(path)) for path in files},
    }


def _comparable(value: Any) -> Any:
    if torch.is_tensor(value):
        # As bytes: NumPy has no bfloat16.
        return value.dtype, tuple(value.shape), value.flatten().view(torch.uint8).numpy().tobytes()
    if isinstance(value, dict):
        return {key: _comparable(item) for key, item in value.items() if key != "log_position"}
    if isinstance(value, list | tuple):
        return [_comparable(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value
