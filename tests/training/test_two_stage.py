"""Training of a denoiser and an upsampler on recordings, in the published layout, from the settings that users have."""

import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import recordings
import runs
from agent import AgentConfig
from algorithms.diamond.agent import DiamondAgent
from component import Component
from conftest import PROJECT
from data import Batch, Dataset, Segments
from errors import UserError
from files import load_tensors
from models.blocks import recompute_activations
from preparation.recordings import write_small_copies
from run.config import build
from run.interrupt import Interrupted
from run.log import read_metrics
from run.settings import load_yaml
from training_helpers import make_trainer, train

LENGTH = 30


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of 14 games, prepared as the published ones."""
    root = tmp_path_factory.mktemp("data") / "prepared"
    for number in range(14):
        recordings.write_hdf5(root / "full_res" / f"game_{number}.hdf5", LENGTH, seed=number)
    counts = write_small_copies(root / "full_res", root / "low_res", recordings.SMALL_SIZE, None, num_workers=2)
    assert counts == {"train": 13, "test": 1}
    return root


def settings(data: Path, *overrides: str) -> list[str]:
    return [*recordings.CSGO, f"static_dataset.path={data}", *overrides]


def state(folder: Path) -> dict:
    return load_tensors(folder / "checkpoints" / "state.pt")


def assert_same_weights(one: Path, other: Path) -> None:
    ours, theirs = state(one)["agent"], state(other)["agent"]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("two_stage") / "run", game=settings(data), small=()).folder.path


def test_both_stages_are_trained_and_evaluated(finished: Path) -> None:
    lines = read_metrics(finished / "metrics.jsonl")
    names = {name for line in lines for name in line}
    for component in ("denoiser", "upsampler"):
        assert {f"{component}/train/loss_denoising", f"{component}/test/loss_denoising"} <= names
    assert not any(name.startswith(("rew_end_model", "actor_critic", "collection")) for name in names)
    updates = [line["upsampler/train/num_updates"] for line in lines if "upsampler/train/num_updates" in line]
    assert updates == [3, 5]
    components = {name.partition(".")[0] for name in state(finished)["agent"]}
    assert components == {"denoiser", "upsampler"}
    assert (finished / "media" / "real_and_imagined_epoch_00002.mp4").is_file()
    assert (finished / "media" / "curves.png").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    "override",
    [
        "training.replay_device=disk",
        "static_dataset.num_workers=0",
        "static_dataset.num_workers=3",
        "training.offload_idle=true",
    ],
)
def test_where_data_and_idle_parts_are_changes_nothing(
    finished: Path, data: Path, tmp_path: Path, override: str
) -> None:
    train(tmp_path / "run", game=settings(data, override), small=())
    assert_same_weights(tmp_path / "run", finished)


@pytest.mark.slow
@pytest.mark.parametrize("override", ["training.replay_device=auto", "training.replay_device=disk"])
@pytest.mark.parametrize(("name", "updates"), [("denoiser", 2), ("upsampler", 4)])
def test_a_stopped_run_continues_the_same(
    finished: Path, data: Path, tmp_path: Path, override: str, name: str, updates: int
) -> None:
    """Although batches were read ahead when it was stopped."""
    trainer = make_trainer(tmp_path / "run", game=settings(data, override), small=())
    component = trainer.algorithm.components[name]
    update = component.update

    def update_and_stop() -> None:
        update()
        if component.num_updates == updates:
            signal.raise_signal(signal.SIGTERM)

    component.update = update_and_stop
    with pytest.raises(Interrupted):
        trainer.run()
    assert runs.resume(trainer.folder.path).returncode == 0
    assert_same_weights(tmp_path / "run", finished)


def test_weights_of_one_stage_can_be_taken_over(finished: Path, data: Path, tmp_path: Path) -> None:
    weights = finished / "checkpoints" / "agent_versions" / "agent_epoch_00002.pt"
    overrides = (f"initialization.path_to_ckpt={weights}", "initialization.load_denoiser=false")
    trainer = make_trainer(tmp_path / "run", game=settings(data, *overrides), small=())
    theirs = load_tensors(weights)
    same = {
        name: torch.equal(value, theirs[name])
        for name, value in trainer.algorithm.agent.state_dict().items()
        if name.endswith("conv_in.weight")
    }
    assert same == {"denoiser.inner_model.conv_in.weight": False, "upsampler.inner_model.conv_in.weight": True}


def test_recomputed_activations_give_the_same_gradients(data: Path, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run", game=settings(data, "training.precision=fp32"), small=())
    for name in ("denoiser", "upsampler"):
        component = trainer.algorithm.components[name]
        for parameter in component.module.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
        batch, _ = component.next_batch()
        gradients, kept = [], []
        for recomputes in (False, True):
            if recomputes:
                recompute_activations(component.module)
            torch.manual_seed(0)
            component.module.zero_grad()
            sizes = []

            def keep(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
                sizes.append(tensor.nbytes)
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                loss, _ = component.module(batch)
            loss.backward()
            gradients.append([parameter.grad.clone() for parameter in component.module.parameters()])
            kept.append(sum(sizes))
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
        assert kept[1] < kept[0] / 2
    other = make_trainer(tmp_path / "other", game=settings(data, "training.gradient_checkpointing=true"), small=())
    assert other.algorithm.agent.denoiser.inner_model.unet.mid_blocks.recomputes


def optimizer_devices(component: Component) -> set[str]:
    state = component.state_dict()["optimizer"]["state"]
    return {value.device.type for entry in state.values() for value in entry.values()}


@pytest.mark.parametrize("trains", [True, False])
def test_components_at_work_are_on_the_device(data: Path, tmp_path: Path, trains: bool) -> None:
    """A device without memory stands in for one that this machine lacks; nothing can come back from it."""
    trainer = make_trainer(tmp_path / "run", game=settings(data, "training.offload_idle=true"), small=())
    component = trainer.algorithm.components["denoiser"]
    component.update()
    assert optimizer_devices(component) == {"cpu"}
    component.device = torch.device("meta")
    with component.at_work(trains):
        tensors = [*component.module.parameters(), *component.module.buffers()]
        assert {value.device.type for value in tensors} == {"meta"}
        assert all(parameter.grad is None for parameter in component.module.parameters())
        # A component that is not trained now leaves its optimizer where it was.
        assert optimizer_devices(component) == {"meta" if trains else "cpu"}
        component.home = component.device


def test_evaluation_is_cut_where_it_should_be(data: Path, tmp_path: Path) -> None:
    def num_batches(*overrides: str) -> int:
        short = ("training.num_final_epochs=1", "evaluation.untrained=false", "evaluation.video_steps=0", *overrides)
        trainer = make_trainer(tmp_path / "_".join(overrides), game=settings(data, *short), small=())
        seen = []
        module = trainer.algorithm.components["denoiser"].module
        module.register_forward_hook(lambda *_: seen.append(module.training))
        trainer.run()
        return seen.count(False)

    # One test episode of 30 steps: 8 chunks of 4 frames, 2 batches of 4 chunks.
    assert num_batches("evaluation.max_batches=null") == 2
    assert num_batches("evaluation.max_batches=1") == 1


def test_mistakes(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(data / "low_res", other / "low_res")
    for number, (overrides, words) in enumerate(
        (
            ((f"static_dataset.path={other}",), "There are no full-size frames: .*full_res"),
            (("env.train.size=[24,20]",), r"are \(3, 12, 20\), but the networks are made for \(3, 24, 20\)"),
            (("agent.upsampler.upsampling_factor=4",), r"are \(3, 60, 100\), but the upsampler makes them 4 times"),
            (("env.train.actions.mouse_y=[0]",), "have 51 entries, but env.train.actions has 37"),
            (("upsampler=null",), "agent.upsampler is set, but upsampler is not"),
            (("static_dataset.path=null",), "An agent without a policy cannot collect: set static_dataset.path"),
            (("env.train.actions=null",), "are multi-hot, and env.train.actions does not describe their 51 entries"),
            (("env.train.size=[12]",), r"env\.train\.size=\[12\] must be one number, or a height and a width"),
            (("agent.upsampler.upsampling_factor=null",), "agent.upsampler.upsampling_factor is missing"),
            (
                ("env.train.actions.exclusive=[w,s]",),
                r"env.train.actions.exclusive\[0\]='w' should be of type list of str",
            ),
            (("training.replay_device=nowhere",), "training.replay_device=nowhere is unknown"),
        )
    ):
        with pytest.raises(UserError, match=words):
            make_trainer(tmp_path / f"run{number}", game=settings(data, *overrides), small=())
    with pytest.raises(UserError, match=r"training.replay_device=disk is for static data sets"):
        make_trainer(tmp_path / "atari", "training.replay_device=disk")
    with pytest.raises(UserError, match=r"training.offload_idle=true needs an agent without a policy"):
        make_trainer(tmp_path / "other", "training.offload_idle=true")


def test_the_same_data_without_full_size(data: Path, tmp_path: Path) -> None:
    """Frames that are not square and multi-hot actions need no second stage."""
    overrides = ("agent.upsampler=null", "upsampler=null", "static_dataset.path_full_res=/nowhere")
    trainer = train(tmp_path / "run", game=settings(data, *overrides), small=())
    assert trainer.algorithm.agent.components == ("denoiser",)


@pytest.mark.slow
def test_both_stages_learn(data: Path, tmp_path: Path) -> None:
    overrides = (
        "training.num_final_epochs=2",
        "denoiser.training.steps_first_epoch=150",
        "denoiser.training.steps_per_epoch=150",
        "denoiser.training.batch_size=16",
        "denoiser.training.grad_acc_steps=1",
        "denoiser.optimizer.lr=1e-3",
        "upsampler.training.steps_first_epoch=60",
        "upsampler.training.steps_per_epoch=60",
        "upsampler.training.batch_size=4",
        "upsampler.optimizer.lr=1e-3",
        "evaluation.untrained=true",
    )
    folder = train(tmp_path / "run", game=settings(data, *overrides), small=()).folder
    for name in ("denoiser", "upsampler"):
        losses = [
            line[f"{name}/test/loss_denoising"]
            for line in read_metrics(folder.metrics)
            if f"{name}/test/loss_denoising" in line
        ]
        assert losses[-1] < 0.5 * losses[0], name


@pytest.mark.slow
def test_the_full_size_networks_work() -> None:
    """One forward of each at batch 1: ten updates with the published batches take hours on a CPU."""
    config = build(AgentConfig, load_yaml(PROJECT / "config" / "agent" / "csgo.yaml"), "agent")
    agent = DiamondAgent(replace(config, num_actions=51)).eval()
    small, full = torch.randint(256, (1, 5, 3, 30, 56)).byte(), torch.randint(256, (1, 2, 3, 150, 280)).byte()
    act, flags, mask = torch.randint(2, (1, 5, 51)).byte(), torch.zeros(1, 5).byte(), torch.ones(1, 5).bool()
    batches = {
        "denoiser": Batch(small, act, flags.float(), flags, flags, mask, small[:, 0]),
        "upsampler": Batch(
            small[:, :2], act[:, :2], flags[:, :2].float(), flags[:, :2], flags[:, :2], mask[:, :2], small[:, 0], full
        ),
    }
    for name, batch in batches.items():
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            loss, _ = getattr(agent, name)(batch)
        assert loss.isfinite()


def test_segments_of_the_upsampler_have_both_sizes_of_one_moment(data: Path, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run", game=settings(data), small=())
    batch, _ = trainer.algorithm.components["upsampler"].next_batch()
    assert batch.obs.shape == (2, 3, 3, *recordings.SMALL_SIZE)
    assert batch.full_obs.shape == (2, 3, 3, *recordings.FULL_SIZE)
    small, full = batch.frames, batch.full_frames
    shrunk = torch.nn.functional.interpolate(full.flatten(0, 1), size=recordings.SMALL_SIZE, mode="area")
    assert (shrunk.unflatten(0, (2, 3)) - small).abs().mean() < 0.05
    # Against another moment of the same games, they differ more.
    dataset = Dataset.open(data / "low_res" / "train")
    full_frames = trainer.data.train.full
    moments = Segments(np.array([0]), np.array([0]), LENGTH)
    shrunk = torch.nn.functional.interpolate(
        full_frames.gather(moments)[0].float(), size=recordings.SMALL_SIZE, mode="area"
    )
    obs = dataset.load_episode(0).obs.float()
    off = (shrunk[:, None] - obs[None]).abs().mean(dim=(2, 3, 4))
    assert (off.diagonal() <= off.min(dim=1).values + 1e-3).all()
