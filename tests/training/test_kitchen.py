"""Training of the predictor of frames k steps ahead, on a moving square."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import evaluate
from data import Dataset, Episode, with_stride
from data.segments import draw_inside
from errors import UserError
from files import load_tensors
from models.diffusion import ConditionalUNet
from run.log import read_metrics
from trained.opening import find_spaces, open_agent
from trained.source import find_run, load_source
from training_helpers import CPU, make_trainer, train

SIDE, STRIDE, STEPS, NUM_AXES = 16, 3, 14, 2
SMALL = (
    f"env.train.size=[{SIDE},{SIDE}]",
    f"static_dataset.stride={STRIDE}",
    "agent.denoiser.inner_model.base_channels=8",
    "agent.denoiser.inner_model.channel_mults=[1,2]",
    "agent.denoiser.inner_model.time_emb_dim=8",
    "agent.denoiser.inner_model.time_emb_mlp_dim=16",
    "agent.denoiser.inner_model.num_heads_attn=2",
    "agent.denoiser.inner_model.num_groups_norm=4",
    "agent.denoiser.schedule.num_steps=20",
    "world_model_env.diffusion_sampler.num_steps_denoising=2",
    "training.num_final_epochs=2",
    "training.compile=false",
    "evaluation.every=1",
    "evaluation.video_steps=3",
    "checkpointing.save_agent_every=1",
    "common.device=cpu",
    "common.seed=3",
)
KITCHEN = ["+experiment=kitchen"]


def write(path: Path, lengths: tuple[int, ...] = (STEPS, STEPS - 3), channels: int = 1) -> Path:
    """Episodes of a square that moves to the right, whose brightness is its step, with continuous actions."""
    for split in ("train", "test"):
        dataset = Dataset(path / split)
        for number, length in enumerate(lengths):
            frames = torch.zeros(length + 1, channels, SIDE, SIDE, dtype=torch.uint8)
            for step in range(length + 1):
                frames[step, :, 4:8, step % (SIDE - 4) :][..., :4] = 100 * number + step + 1
            flags = torch.zeros(length, dtype=torch.uint8)
            ends = flags.clone()
            ends[-1] = 1
            act = torch.arange(length * NUM_AXES).view(length, NUM_AXES) / 100
            info = {"final_observation": frames[-1]}
            dataset.add_episode(Episode(frames[:-1], act, torch.ones(length), flags, ends, info))
        dataset.save_info()
    return path


def start(path: Path, data: Path, *overrides: str, small: tuple[str, ...] = SMALL) -> object:
    return make_trainer(path, f"static_dataset.path={data}", *overrides, game=KITCHEN, small=small)


def test_every_frame_and_every_pair_is_in_a_strided_view_once(tmp_path: Path) -> None:
    dataset = Dataset.open(write(tmp_path / "data") / "train")
    view = with_stride(dataset, STRIDE)
    episodes = list(view.episodes())
    assert [len(each) for each in episodes] == view.lengths == [5, 5, 4, 4, 4, 3]
    assert view.num_steps == dataset.num_steps == 25

    def mark(frame: torch.Tensor) -> int:
        return int(frame.max())

    pairs = [tuple(map(mark, pair)) for each in episodes for pair in zip(each.obs[:-1], each.obs[1:], strict=True)]
    wanted = [
        (100 * n + t + 1, 100 * n + t + 1 + STRIDE) for n, size in enumerate(dataset.lengths) for t in range(size)
    ]
    assert sorted(pairs) == [pair for pair in wanted if (pair[1] - 1) % 100 < dataset.lengths[pair[1] // 100]]
    # The frame after the last step follows the one that is STRIDE steps before it.
    finals = {mark(each.obs[-1]): mark(each.info["final_observation"]) for each in episodes if each.info}
    assert finals == {STEPS + 1 - STRIDE: STEPS + 1, 100 + STEPS - 2 - STRIDE: 100 + STEPS - 2}


def test_steps_of_a_strided_view_have_all_actions_and_rewards(tmp_path: Path) -> None:
    dataset = Dataset.open(write(tmp_path / "data") / "train")
    view = with_stride(dataset, STRIDE)
    assert (view.spaces.actions.kind, view.spaces.actions.size) == ("continuous", STRIDE * NUM_AXES)
    whole, second = dataset.load_episode(0), view.load_episode(1)
    assert torch.equal(second.act[1], whole.act[4:7].flatten())
    # After the end there are neither actions nor rewards: the last window has the step 13 alone.
    assert torch.equal(second.act[4], torch.cat((whole.act[13], torch.zeros(4))))
    assert second.rew.tolist() == [3, 3, 3, 3, 1]
    assert second.trunc.tolist() == [0, 0, 0, 0, 1]
    assert with_stride(dataset, 1) is dataset


def test_pairs_are_drawn_inside_episodes_and_equally_often() -> None:
    lengths, count = np.array([5, 1, 3]), 6000
    drawn = draw_inside(np.random.default_rng(0), lengths, count, 2)
    places, times = np.unique(np.stack((drawn.episode_ids, drawn.starts)), axis=1, return_counts=True)
    assert places.T.tolist() == [[0, 0], [0, 1], [0, 2], [0, 3], [2, 0], [2, 1]]
    # Five standard deviations of a count: exceeded by one in 10^6 runs.
    assert np.abs(times - count / 6).max() < 5 * np.sqrt(count * 1 / 6 * 5 / 6)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kitchen")
    data = write(folder / "data")
    train(folder / "run", f"static_dataset.path={data}", game=KITCHEN, small=SMALL)
    return folder / "run"


def test_a_run_of_the_recipe(finished: Path) -> None:
    lines = read_metrics(finished / "metrics.jsonl")
    known = {name for line in lines for name in line}
    assert {f"denoiser/train/{name}" for name in ("loss_denoising", "grad_norm", "lr")} <= known
    # Every pair once an epoch, in batches of two: 25 frames, of which six are the first of their view.
    assert [line["denoiser/train/num_updates"] for line in lines if "denoiser/train/num_updates" in line] == [9, 18]
    losses = {
        line["epoch"]: line["denoiser/test/loss_denoising"] for line in lines if "denoiser/test/loss_denoising" in line
    }
    best = min(losses, key=losses.get)
    ours, kept = load_tensors(finished / "checkpoints" / "best.pt"), finished / "checkpoints" / "agent_versions"
    theirs = load_tensors(kept / f"agent_epoch_{int(best):05d}.pt")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    events = EventAccumulator(str(finished / "tensorboard")).Reload()
    assert [event.step for event in events.Images("media/predictions")] == [1, 2]
    assert (finished / "media" / "predictions_epoch_00002.png").is_file()
    assert (finished / "media" / "real_and_imagined_epoch_00002.mp4").is_file()


def test_predictions_are_measured_beside_copies(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step is STRIDE recorded steps ahead: the error of the copy is computed by hand, over all pairs."""
    words = [finished, "--world", "--horizon", 1, "--segments", 1000, "--samples", 1, "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, words)])
    assert evaluate.main() == 0
    (path,) = (finished / "evaluation").glob("*/world.json")
    found = json.loads(path.read_text())
    errors = []
    for episode in Dataset.open(finished.parent / "data" / "test").episodes():
        frames = torch.cat((episode.obs, episode.info["final_observation"][None])).double() / 255
        errors += (frames[STRIDE:] - frames[:-STRIDE]).square().mean(dim=(1, 2, 3)).tolist()
    assert found["segments_at_step"] == [len(errors)]
    psnr = found["metrics"]["psnr"]
    assert psnr["copy"]["value"][0] == pytest.approx(-10 * np.log10(np.mean(errors)), abs=1e-3)
    assert {"model", "copy"} <= set(found["metrics"]["ssim"])
    assert np.isfinite(psnr["model"]["value"][0])


def test_its_weights_have_the_published_names(finished: Path) -> None:
    source = load_source(finished, None, True)
    algorithm = open_agent(source, find_spaces(source), CPU, torch.float32)
    assert algorithm.policy is None
    network = algorithm.agent.denoiser.inner_model
    assert isinstance(network, ConditionalUNet)
    names = {f"denoiser.inner_model.{name}" for name in network.state_dict()}
    assert set(load_tensors(finished / "checkpoints" / "best.pt")) == names


def test_actions_reach_the_network_if_they_are_asked_for(tmp_path: Path) -> None:
    trainer = start(tmp_path / "run", write(tmp_path / "data"), "agent.denoiser.conditioning=actions")
    denoiser = trainer.algorithm.agent.denoiser
    assert denoiser.inner_model.act_emb.weight.shape == (STRIDE * NUM_AXES, 16)
    trainer.algorithm.components["denoiser"].update()
    assert denoiser.inner_model.act_emb.weight.abs().sum() > 0


def test_the_published_run_opens(reference_dir: Path) -> None:
    """Its network gives what was recorded, under settings that were read from its folder."""
    run = reference_dir / "kitchen_run"
    if not run.is_dir():
        pytest.skip(f"{run} is absent")
    source = load_source(find_run(run, needs_weights=True), None, best=True)
    assert (source.config.static_dataset.stride, source.config.env.train.size) == (3, (32, 32))
    algorithm = open_agent(source, find_spaces(source), CPU, torch.float32)
    given = load_tensors(reference_dir / "kitchen_small.pt")["run"]["checkpoint"]
    noisy, current = given["x"].chunk(2, dim=1)
    with torch.no_grad():
        output = algorithm.agent.denoiser.inner_model(noisy, given["t"], current)
    torch.testing.assert_close(output, given["out"], atol=1e-4, rtol=0)


def test_training_goes_on_from_a_published_file(reference_dir: Path, tmp_path: Path) -> None:
    path = reference_dir / "kitchen_run" / "checkpoints" / "best_model.pth"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    model = load_tensors(path)["model_config"]
    sizes = [f"agent.denoiser.inner_model.{name}={list(v) if isinstance(v, tuple) else v}" for name, v in model.items()]
    settings = [each for each in sizes if "img_channels" not in each]
    settings += ["agent.denoiser.inner_model.num_heads_attn=8", "agent.denoiser.inner_model.num_groups_norm=32"]
    load = f"initialization.path_to_ckpt={path}"
    trainer = start(tmp_path / "run", write(tmp_path / "data"), *settings, load)
    weights = load_tensors(path)["model_state_dict"]
    network = trainer.algorithm.agent.denoiser.inner_model
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    # As published, every parameter decays.
    (group,) = trainer.algorithm.components["denoiser"].state_dict()["optimizer"]["param_groups"]
    assert (group["weight_decay"], len(group["params"])) == (0.01, len(weights))
    trainer.algorithm.components["denoiser"].update()
    again = start(tmp_path / "again", tmp_path / "data", *settings, load, "initialization.load_optimizer=true")
    ours = again.algorithm.components["denoiser"].state_dict()["optimizer"]["state"]
    theirs = load_tensors(path)["optimizer_state_dict"]["state"]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[number][key], theirs[number][key]) for number in theirs for key in theirs[number])
    again.algorithm.components["denoiser"].update()
    assert again.algorithm.components["denoiser"].state_dict()["optimizer"]["state"][0]["step"] == 25
    plain = tmp_path / "plain.pt"
    torch.save({"model_state_dict": weights}, plain)
    load = f"initialization.path_to_ckpt={plain}"
    with pytest.raises(UserError, match=r"plain.pt holds no state of an optimizer"):
        start(tmp_path / "none", tmp_path / "data", *settings, load, "initialization.load_optimizer=true")
    with pytest.raises(UserError, match=r"initialization.load_optimizer=true needs load_denoiser=true, and a path"):
        start(tmp_path / "nothing", tmp_path / "data", "initialization.load_optimizer=true")
    data = write(tmp_path / "colour", channels=3)
    with pytest.raises(UserError, match=r"conv_in.weight is \(32, 2, 3, 3\) there, \(32, 6, 3, 3\) here: .* grey"):
        start(tmp_path / "other", data, *settings, load, "env.train.grayscale=false")


@pytest.mark.parametrize(
    ("overrides", "lengths", "channels", "words"),
    [
        (["agent.denoiser.inner_model.base_channels=10"], (STEPS,), 1, "level of 10 channels, which num_groups_norm=4"),
        (["agent.denoiser.inner_model.channel_mults=[2,2]"], (STEPS,), 1, r"channel_mults=\[2, 2\] must begin with 1"),
        (
            ["static_dataset.stride=20"],
            (STEPS, 8),
            1,
            "static_dataset.stride=20 is longer than every episode .* 14 frames",
        ),
        (
            ["denoiser.training.batch_size=50"],
            (STEPS,),
            1,
            "has 11 segments, fewer than denoiser.training.batch_size=50",
        ),
        (
            ["denoiser.training.only_whole_segments=false"],
            (STEPS,),
            1,
            "steps_first_epoch=null needs",
        ),
        (
            ["denoiser.training.num_autoregressive_steps=9"],
            (STEPS,),
            1,
            "No episode is as long as the segments",
        ),
        ([], (STEPS,), 3, "set env.train.grayscale=false"),
        (
            ["agent.denoiser.inner_model.channel_mults=[1,1,1,1,1,1]"],
            (STEPS,),
            1,
            "16 and 16 are not both multiples of 32",
        ),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, overrides: list[str], lengths: tuple[int, ...], channels: int, words: str
) -> None:
    data = write(tmp_path / "data", lengths, channels)
    with pytest.raises(UserError, match=words):
        start(tmp_path / "run", data, *overrides)
