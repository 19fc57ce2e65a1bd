"""Agents whose denoiser predicts noise train, resume, imagine and are played like the others."""

import signal
import sys
from pathlib import Path

import pytest
import torch

import play
import runs
from data import Dataset
from errors import UserError
from files import load_tensors
from models.diffusion import CosineScheduleConfig, DiffusionSampler, LinearScheduleConfig, RespacedSamplerConfig
from run.interrupt import Interrupted
from run.log import read_metrics
from trained.opening import find_spaces, open_agent
from trained.source import load_source
from training_helpers import CPU, make_trainer, train

SHORT = ["collection.train.num_steps_total=40", "training.num_final_epochs=1", "evaluation.untrained=false"]
THREE_STEPS = "world_model_env.diffusion_sampler.num_steps_denoising=3"
AGENTS = {"ddpm": LinearScheduleConfig(1000), "ddpm_cosine": CosineScheduleConfig(100)}
PRECISION = {"ddpm": "training.precision=fp32", "ddpm_cosine": "training.precision=bf16"}


@pytest.fixture(scope="module", params=AGENTS)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The name of an agent, and a run that trained it."""
    folder = tmp_path_factory.mktemp(request.param) / "run"
    train(folder, f"agent={request.param}", THREE_STEPS, PRECISION[request.param], *SHORT, game=runs.CHASE)
    return request.param, folder


def test_every_part_is_trained(finished: tuple[str, Path]) -> None:
    name, folder = finished
    known = {key for line in read_metrics(folder / "metrics.jsonl") for key in line}
    assert {f"{each}/train/loss_total" for each in ("rew_end_model", "actor_critic")} <= known
    assert {"denoiser/train/loss_denoising", "denoiser/test/loss_denoising"} <= known
    assert list((folder / "media").glob("real_and_imagined_*.mp4"))
    source = load_source(folder, None, False)
    assert source.config.agent.denoiser.schedule == AGENTS[name]
    assert source.config.world_model_env.diffusion_sampler == RespacedSamplerConfig(3)


def test_its_world_is_played_and_its_denoising_is_kept(
    finished: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, folder = finished
    film = tmp_path / "film.mp4"
    words = ["--run", folder, "--video", film, "--steps", 4, "-r", "--store-denoising-trajectory", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["play.py", *map(str, words), "--trust"])
    assert play.main() == 0
    assert film.is_file()
    (recorded,) = (path for path in (folder / "dataset").iterdir() if path.name.startswith("rec_wm"))
    trajectory = Dataset.open(recorded).load_episode(0).info["denoising_trajectory"]
    assert trajectory.shape[1:] == (4, 3, 16, 16)
    # It is shown in the form of the network's input: it begins with noise of variance 1.
    assert 0.8 < trajectory[:, 0].float().std() < 1.2


@pytest.mark.parametrize("sampler", [["world_model_env=fast"], ["world_model_env.diffusion_sampler.eta=0.0"]])
def test_it_can_be_sampled_in_other_ways(finished: tuple[str, Path], sampler: list[str]) -> None:
    source = load_source(finished[1], None, False, sampler)
    algorithm = open_agent(source, find_spaces(source), CPU, torch.float32)
    start = Dataset.open(finished[1] / "dataset" / "train").load_episode(0)
    obs = start.obs[None, :2].float() / 127.5 - 1
    world = DiffusionSampler(algorithm.agent.denoiser, source.config.world_model_env.diffusion_sampler)
    frame, _ = world.sample(obs, start.act[None, :2])
    assert (frame.shape, bool(frame.isfinite().all())) == ((1, 3, 16, 16), True)


@pytest.mark.slow
def test_an_interrupted_run_resumes(finished: tuple[str, Path], tmp_path: Path) -> None:
    name, folder = finished
    settings = [f"agent={name}", THREE_STEPS, PRECISION[name], *SHORT]
    trainer = make_trainer(tmp_path / "run", *settings, game=runs.CHASE)
    component = trainer.algorithm.components["denoiser"]
    update = component.update

    def update_and_stop() -> None:
        update()
        if component.num_updates == 2:
            signal.raise_signal(signal.SIGTERM)

    component.update = update_and_stop
    with pytest.raises(Interrupted):
        trainer.run()
    assert runs.resume(trainer.folder.path).returncode == 0
    ours, theirs = (load_tensors(path / "checkpoints" / "state.pt")["agent"] for path in (trainer.folder.path, folder))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_samplers_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    for settings, words in (
        (["agent=ddpm_cosine", "world_model_env.diffusion_sampler.num_steps_denoising=101"], "=101 is too many"),
        (["world_model_env=respaced", "world_model_env.num_batches_to_preload=32"], "schedule=null needs a denoiser"),
        (["agent=ddpm", "agent.denoiser.sigma_data=0.5"], "sigma_data=0.5 must be null for parameterisation=eps"),
        (["agent.denoiser.parameterisation=noise"], "parameterisation=noise is unknown: use edm or eps or v"),
    ):
        with pytest.raises(UserError, match=words):
            make_trainer(tmp_path / words[:8], *settings, game=runs.CHASE)
