"""Configuration, device, folder, log, media and pace of a run."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from agent import AgentConfig
from conftest import PROJECT
from errors import UserError, near_matches
from run.config import build, evaluate_arithmetic, register_resolvers
from run.device import autocast, cast_weights, choose_device, choose_precision, set_backends
from run.folder import RunFolder, resume_command
from run.log import Log, WandbConfig, read_metrics
from run.media import draw_curves, label_columns, write_picture, write_video
from run.pace import Pace, in_words
from run.random_state import numpy_generator, random_state, restore_random_state
from run.ranks import run_ranks

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", OmegaConf.create({"common": {"seed": 1}}))


@pytest.mark.parametrize(
    ("expression", "value"),
    [("1 + 2", 3), ("-4 * 2.5", -10), ("7 // 2", 3), ("(1 + 1) / 4 - 1", -0.5), ("float('inf')", math.inf)],
)
def test_resolver_does_arithmetic(expression: str, value: float) -> None:
    assert evaluate_arithmetic(expression) == value


@pytest.mark.parametrize(
    "expression",
    ["__import__('os').system('touch owned')", "open('x')", "'a' * 9", "9 ** 9", "[1]", "x", "1 / 0", "float('x')"],
)
def test_resolver_does_nothing_else(expression: str) -> None:
    with pytest.raises(UserError, match="only arithmetic on numbers is allowed"):
        evaluate_arithmetic(expression)


def test_resolver_in_yaml() -> None:
    register_resolvers()
    config = OmegaConf.create({"n": 4, "length": "${eval:'${n} + 15'}"})
    assert config.length == 19


AGENT = """
_target_: agent.AgentConfig
denoiser:
  _target_: models.diffusion.DenoiserConfig
  sigma_data: 0.5
  sigma_offset_noise: 0.3
  inner_model: {_target_: models.diffusion.InnerModelConfig, img_channels: 3, num_steps_conditioning: 4,
    cond_channels: 256, depths: [2, 2], channels: [64, 64], attn_depths: [0, 0]}
rew_end_model: {_target_: models.rew_end_model.RewEndModelConfig, lstm_dim: 512, img_channels: 3, img_size: 64,
  cond_channels: 128, depths: [2], channels: [32], attn_depths: [0]}
actor_critic: {_target_: models.actor_critic.ActorCriticConfig, lstm_dim: 512, img_channels: 3, img_size: 64,
  channels: [32], down: [1]}
"""


def test_published_agent_configuration_resolves() -> None:
    config = replace(build(AgentConfig, OmegaConf.create(AGENT), "agent"), num_actions=6)
    assert isinstance(config, AgentConfig)
    assert config.denoiser.inner_model.depths == (2, 2)
    assert config.denoiser.inner_model.num_actions == config.rew_end_model.num_actions == 6


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("agent.AgentConfig", "os.system", r"agent\._target_: os\.system is not allowed in a configuration"),
        ("models.diffusion.InnerModelConfig", "models.diffusion.InnerModel", "is not allowed in a configuration"),
        ("sigma_data: 0.5", "sigma_dato: 0.5", r"agent\.denoiser\.sigma_dato is unknown\. Did you mean sigma_data\?"),
        ("sigma_data: 0.5", "sigma_data: half", "sigma_data='half' should be of type float"),
        ("sigma_data: 0.5", "sigma_data: true", "sigma_data=True should be of type float"),
        ("depths: [2, 2]", "depths: 2", "depths=2 should be of type"),
        ("lstm_dim: 512, ", "", r"agent\.rew_end_model\.lstm_dim is missing: RewEndModelConfig needs it"),
    ],
)
def test_other_configurations_are_refused(old: str, new: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        build(AgentConfig, OmegaConf.create(AGENT.replace(old, new)), "agent")


def test_near_matches() -> None:
    assert near_matches("pnog", ["Pong", "Breakout"]) == " Did you mean Pong?"
    assert near_matches("xyz", ["Pong"]) == ""


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    for name in ("gpu", "cuda:x", "meta", "xla"):
        with pytest.raises(UserError, match=f"common.device={name} is "):
            choose_device(name)
    if not torch.cuda.is_available():
        for name in ("cuda", "cuda:0", "all"):
            with pytest.raises(UserError, match=f"common.device={name}, but PyTorch sees no CUDA GPU here"):
                choose_device(name)


def test_precisions() -> None:
    assert choose_precision("fp32", CPU) == torch.float32
    assert choose_precision("bf16", CPU) == torch.bfloat16
    assert choose_precision("auto", CPU) in (torch.float32, torch.bfloat16)
    with pytest.raises(UserError, match=r"training\.precision=fp8 is unknown"):
        choose_precision("fp8", CPU)


def test_random_states_come_back() -> None:
    state, generator = random_state(CPU), numpy_generator(1, 2)
    numbers, kept = torch.rand(3), generator.bit_generator.state
    drawn = generator.random(3)
    restore_random_state(state, CPU)
    generator.bit_generator.state = kept
    assert torch.equal(torch.rand(3), numbers)
    assert (generator.random(3) == drawn).all()
    assert not (numpy_generator(1, 3).random(3) == numpy_generator(1, 2).random(3)).any()


def test_folder_holds_what_the_run_needs(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert folder.load_config() == {"common": {"seed": 1}}
    assert (folder.path / "src" / "main.py").is_file()
    assert (folder.path / "scripts" / "resume.sh").is_file()
    assert not list(folder.path.rglob("__pycache__"))
    with pytest.raises(UserError, match=r"already holds a run\. Resume it with .*scripts/resume\.sh"):
        RunFolder.create(folder.path, OmegaConf.create({}))
    with pytest.raises(UserError, match="is not a run folder"):
        RunFolder.open(folder.path / "src")
    for here, command in (
        (PROJECT, f"./scripts/resume.sh {folder.path}"),
        (folder.path, "./scripts/resume.sh"),
        (folder.path / "src", f"{folder.path}/scripts/resume.sh"),
    ):
        monkeypatch.chdir(here)
        assert resume_command(folder) == command


def test_log_removes_lines_after_its_position(folder: RunFolder) -> None:
    log = Log(folder, WandbConfig(), {})
    log.write(1, {"a/loss": 1.0})
    log.sync()
    position = log.position
    log.write(2, {"a/loss": 2.0})
    log.close()
    with open(folder.metrics, "a") as file:
        file.write('{"epoch": 3, "a/lo')
    assert [line["epoch"] for line in read_metrics(folder.metrics)] == [1, 2]
    again = Log(folder, WandbConfig(), {}, position)
    again.write(2, {"a/loss": 5.0})
    again.close()
    assert read_metrics(folder.metrics) == [{"epoch": 1, "a/loss": 1.0}, {"epoch": 2, "a/loss": 5.0}]
    events = EventAccumulator(str(folder.tensorboard))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("a/loss")] == [(1, 1.0), (2, 5.0)]


def test_a_log_shows_pictures_of_its_epochs(folder: RunFolder) -> None:
    """Also after it was opened again; a picture of a later epoch belongs to work that was discarded."""
    log, pixels, positions = Log(folder, WandbConfig(), {}), np.zeros((4, 6, 3), np.uint8), []
    for epoch in (1, 2):
        log.write(epoch, {"a/loss": 1.0})
        positions.append(log.position)
        film = folder.media / f"frames_epoch_{epoch:05d}.mp4"
        write_picture(pixels, film.with_suffix(".png"))
        log.film(film)
    assert pictures(log, folder) == [1, 2]
    assert pictures(Log(folder, WandbConfig(), {}, positions[0]), folder) == [1]


def pictures(log: Log, folder: RunFolder) -> list[int]:
    """Close a log, and read the epochs of the pictures of 6×4 pixels that TensorBoard shows."""
    log.close()
    events = EventAccumulator(str(folder.tensorboard))
    events.Reload()
    shown = events.Images("media/frames")
    assert {(each.width, each.height) for each in shown} == {(6, 4)}
    return [each.step for each in shown]


def test_a_log_counts_the_time_of_all_processes(folder: RunFolder) -> None:
    log = Log(folder, WandbConfig(), {})
    assert 0 <= log.seconds < 1000
    log.write(1, {"time/seconds": 5000.0})
    position = log.position
    log.write(2, {"time/seconds": 7000.0})
    log.close()
    again = Log(folder, WandbConfig(), {}, position)
    # What came after the checkpoint is done again, and its time counts once.
    assert 5000 <= again.seconds < 6000
    again.close()


def test_log_that_lost_lines_is_noticed(folder: RunFolder) -> None:
    with pytest.raises(UserError, match="is shorter"):
        Log(folder, WandbConfig(), {}, position=10)


def test_wandb_offline(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    log = Log(folder, WandbConfig(mode="offline", project="tests", tags=("a",)), {"seed": 1})
    log.write(1, {"a/loss": 1.0})
    film = folder.media / "frames_epoch_00001.mp4"
    frames = np.zeros((2, 16, 16, 3), np.uint8)
    write_video(frames, (16, 16), film)
    write_picture(frames[0], film.with_suffix(".png"))
    log.film(film)
    log.close()
    sent = {path.suffix for path in (folder.path / "wandb").glob("offline-run-*/files/media/**/*") if path.is_file()}
    assert sent == {".png", ".mp4"}
    assert list((folder.path / "wandb").glob("offline-run-*/*.wandb"))
    with pytest.raises(UserError, match=r"wandb\.mode=on is unknown"):
        Log(folder, WandbConfig(mode="on"), {})


def test_video_can_be_read_back(tmp_path: Path) -> None:
    film = torch.zeros(12, 3, 16, 16, dtype=torch.uint8)
    film[:, 0, :, :8] = 250
    frames = label_columns({"real": film, "imagined": 255 - film}, height=64)
    assert frames.shape == (12, 84, 132, 3)
    write_video(frames, frames.shape[1:3], tmp_path / "film.mp4", fps=10)
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "film.mp4"))
    meta = next(reader)
    read = [np.frombuffer(frame, np.uint8).reshape(84, 132, 3) for frame in reader]
    assert (meta["fps"], meta["size"], len(read)) == (10, (132, 84), 12)
    # Red on the left of the real side, its opposite on the imagined side, whatever the codec did to edges.
    assert read[5][50, 10, 0] > 200
    assert read[5][50, 10, 1] < 60
    assert read[5][50, 80, 0] < 60
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_curves_are_drawn(tmp_path: Path) -> None:
    metrics = [
        {"epoch": epoch, "denoiser/train/loss_denoising": 1 / epoch, "collection/test/return_mean": epoch}
        for epoch in range(1, 5)
    ]
    draw_curves(metrics, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        # Two panels side by side, with something in both.
        pixels = np.asarray(picture.convert("L")).astype(int)
    halves = np.array_split(pixels, 2, axis=1)
    assert all((half < 100).sum() > 500 for half in halves)
    draw_curves([{"epoch": 1, "time/x": 1.0}], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_pace() -> None:
    pace = Pace()
    assert pace.rate("a") == 0
    pace.add("a", 10, 2)
    pace.add("a", 10, 3)
    assert pace.rate("a") == 4
    assert pace.seconds_for({"a": 8, "never measured": 100}) == 2


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(45.2, "45 s"), (720, "12 min"), (11_100, "3 h 05 min"), (190_000, "2 days 4 h"), (90_000, "1 day 1 h")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_metrics_are_lines_of_json(folder: RunFolder) -> None:
    log = Log(folder, WandbConfig(), {})
    log.write(3, {"denoiser/train/loss": 0.5})
    log.close()
    assert json.loads(folder.metrics.read_text()) == {"epoch": 3, "denoiser/train/loss": 0.5}


def test_weights_cast_once_compute_the_same() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(16, 2), nn.Embedding(2, 3))
    frames, head = torch.randn(2, 3, 4, 4), network[:4]
    with autocast(torch.device("cpu"), torch.bfloat16), torch.no_grad():
        expected = head(frames)
        cast_weights(network, torch.bfloat16)
        assert torch.equal(head(frames), expected)
    dtypes = [layer.weight.dtype for layer in (network[0], network[1], network[3], network[4])]
    assert dtypes == [torch.bfloat16, torch.float32, torch.bfloat16, torch.float32]


def test_processes_of_one_machine_do_not_share_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"^common.device=cuda:0 is one GPU, but there are 2 processes .*=cuda: each"):
        run_ranks("cuda:0", lambda ranks: 0)


@pytest.fixture
def _same_backends_afterwards() -> Iterator[None]:
    precision, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.benchmark
    yield
    torch.set_float32_matmul_precision(precision)
    cudnn.allow_tf32, cudnn.benchmark = before


@pytest.mark.usefixtures("_same_backends_afterwards")
@pytest.mark.parametrize(("precision", "has_tf32"), [(torch.float32, False), (torch.bfloat16, True)])
def test_float32_has_no_tf32_on_gpus(precision: torch.dtype, has_tf32: bool) -> None:
    set_backends(torch.device("cuda", 0), precision)
    assert torch.backends.cuda.matmul.allow_tf32 == has_tf32
    assert torch.backends.cudnn.allow_tf32 == has_tf32


@pytest.mark.usefixtures("_same_backends_afterwards")
def test_backends_of_cpus_are_left_alone() -> None:
    torch.set_float32_matmul_precision("medium")
    set_backends(CPU, torch.float32)
    assert torch.get_float32_matmul_precision() == "medium"


def test_two_films_to_one_path(tmp_path: Path) -> None:
    """The film that is complete last stays, and nothing else."""
    path, frame = tmp_path / "film.mp4", np.zeros((16, 16, 3), np.uint8)

    def frames() -> Iterator[np.ndarray]:
        yield frame
        write_video([frame] * 5, (16, 16), path)
        yield frame

    write_video(frames(), (16, 16), path)
    assert imageio_ffmpeg.count_frames_and_secs(str(path))[0] == 2
    assert list(tmp_path.iterdir()) == [path]
