"""`python src/play.py` as it is called: what it finds, films, benchmarks, published weights, and every mistake."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

import play
import runs
from algorithms import read_settings
from conftest import PROJECT
from data import Actions, Dataset, Episode
from errors import UserError
from files import load_tensors
from game.build import action_names
from game.dataset_env import DatasetEnv, open_datasets
from game.view import Field
from game.window.painter import Painter, to_array
from game.window.window import INSTEAD
from game_runs import call_door, copy_run, make_agent, make_run, read_film, write_published_layout
from run.folder import RunFolder
from trained.pretrained import GAMES, REPOSITORY, ask_for_game, find_game
from trained.source import Source, find_run, load_source
from training_helpers import compose

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def complaint(capfd: pytest.CaptureFixture, code: int) -> str:
    """The one line on standard error."""
    assert code == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize("controller", ["policy", "random", "replay"])
@pytest.mark.parametrize("env", ["wm", "test", "train"])
def test_films(
    shared_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, controller: str, env: str
) -> None:
    path = tmp_path / "new" / "film.mp4"
    options = ["--video", path, "--steps", "5", "--controller", controller, "--env", env, "--size", "320"]
    assert call_door(monkeypatch, "--run", shared_run.path, *options) == 0
    film = read_film(path)
    assert film.shape[0] == 6
    assert film.shape[2] == 320
    # The header's letters, and below it a frame that fills the width.
    assert (film[0, :-320] > 200).all(axis=-1).sum() > 100
    assert film[0, -320:].std() > 1
    assert [entry.name for entry in path.parent.iterdir()] == ["film.mp4"]


def test_film_is_what_the_window_shows(
    shared_run: RunFolder, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    path = tmp_path / "film.gif"
    code = call_door(
        monkeypatch, "-d", "--run", shared_run.path, "--video", path, "--steps", "3", "--size", "160", "--fps", "10"
    )
    assert code == 0
    out = capfd.readouterr()
    assert f"Film of 3 steps: {path}" in out.out
    assert "100%" in out.err
    film = Image.open(path)
    assert film.n_frames == 4
    assert film.info["duration"] == 100
    env = DatasetEnv(open_datasets(source.datasets), action_names(source.config.env.train))
    film.seek(2)
    env.step = 2
    shown = to_array(Painter(160).paint(env.view(), Field("fps", "10", 13)))
    # A GIF has 256 colours.
    assert np.abs(np.asarray(film.convert("RGB")).astype(int) - shown).mean() < 2


def test_recording_with_a_film(shared_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    shutil.copytree(shared_run.path, tmp_path / "run")
    options = ["-r", "--controller", "random", "--env", "test", "--video", tmp_path / "a.mp4", "--steps", "7"]
    assert call_door(monkeypatch, "--run", tmp_path / "run", *options) == 0
    assert Dataset.open(tmp_path / "run" / "dataset" / "rec_test_random").num_steps == 7
    assert "rec_test_random holds 1 episode" in capfd.readouterr().out


def test_seed_decides_what_happens(shared_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    films = []
    for number, seed in enumerate((5, 5, 6)):
        path = tmp_path / f"{number}.mp4"
        code = call_door(
            monkeypatch, "--run", shared_run.path, "--video", path, "--steps", "6", "--size", "64", "--seed", seed
        )
        assert code == 0
        films.append(path.read_bytes())
    assert films[0] == films[1] != films[2]


def test_benchmark(shared_run: RunFolder, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    assert call_door(monkeypatch, "--run", shared_run.path, "--benchmark", "4", "--precision", "fp32") == 0
    out = capfd.readouterr().out
    for words in ("world model: ", "real (test): ", "real (train): ", " frames per second, "):
        assert words in out
    world_model = out.split("world model: ")[1].split("real (test)")[0]
    shares = [float(line.split()[-1].removesuffix("%")) for line in world_model.splitlines()[1:]]
    assert sum(shares) == pytest.approx(100, abs=0.5)
    assert {"denoiser", "policy", "drawing", "other"} < {line.split()[0] for line in world_model.splitlines()[1:]}


@pytest.mark.slow
def test_without_a_compiler(shared_run: RunFolder, tmp_path: Path) -> None:
    """One line, and playing continues."""
    command = [sys.executable, PROJECT / "src" / "play.py", "--run", shared_run.path, "--benchmark", "1", "--compile"]
    nothing = {"CXX": str(tmp_path / "no-compiler"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    result = runs.run([*command, "--device", "cpu"], **nothing)
    assert result.returncode == 0, result.stderr
    warnings = [line for line in result.stderr.splitlines() if "warning" in line.lower()]
    assert len(warnings) == 1
    assert warnings[0].startswith("warning: networks are not compiled, and therefore slower: ")
    assert "world model: " in result.stdout


def test_finding_the_run(
    shared_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    def film(*arguments: str | Path) -> str:
        assert call_door(monkeypatch, "--video", tmp_path / "a.gif", "--steps", "1", *arguments) == 0
        return capfd.readouterr().out

    outputs = tmp_path / "outputs"
    older, newer = [copy_run(shared_run, outputs / "2026-01-01" / name).path for name in ("10-00-00", "12-00-00")]
    for age, folder in ((300, older), (200, newer)):
        os.utime(folder / "config" / "trainer.yaml", times=(time.time() - age,) * 2)
    monkeypatch.chdir(tmp_path)
    shown = film()
    assert f"Newest run: {newer}" in shown
    assert f"Playing {newer} (agent_epoch_00003, cpu)" in shown
    assert find_run(older, needs_weights=True) == older
    monkeypatch.chdir(older / "dataset" / "train")
    assert f"Playing {older} (agent_epoch_00001, cpu)" in film("--epoch", "1")
    assert "(best, cpu)" in film("--best")
    assert f"Playing {newer}" in film("--run", newer)
    by_name = copy_run(shared_run, outputs / "by_name").path
    by_name.joinpath("config", "trainer.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert find_run(None, needs_weights=True) == by_name
    shutil.rmtree(by_name)
    # A run that has no weights yet is passed over, unless nobody asks for them.
    shutil.rmtree(newer / "checkpoints")
    assert find_run(None, needs_weights=True) == older
    assert find_run(None, needs_weights=False) == newer


def test_run_folders_of_the_published_layout(
    shared_run: RunFolder, tmp_path: Path, reference_dir: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    published = tmp_path / "published"
    write_published_layout(published, shared_run)
    for name in ("checkpoints", "dataset"):
        shutil.copytree(shared_run.path / name, published / name)
    assert load_source(published, None, False).config.env.train.size == 16
    recorded = tmp_path / "recorded"
    shutil.copytree(reference_dir / "run", recorded)
    for folder in (published, recorded):
        film = ["--video", tmp_path / "a.mp4", "--steps", "2", "world_model_env.num_batches_to_preload=2"]
        assert call_door(monkeypatch, "--run", folder, "--env", "wm", *film) == 0
        assert call_door(monkeypatch, "--run", folder, "-d", "--video", tmp_path / "d.mp4", "--steps", "2") == 0
    assert "Data sets: train (11 episodes), test (2 episodes)" in capfd.readouterr().out
    sizes = json.loads((recorded / "agent_config.json").read_text())["denoiser"]["inner_model"]
    inner_model = load_source(recorded, None, False).config.agent.denoiser.inner_model
    assert list(inner_model.channels) == sizes["channels"]
    assert inner_model.cond_channels == sizes["cond_channels"]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, reference_dir: Path) -> Path:
    """The Hub's cache as a download leaves it, with random weights of the published shapes."""
    repository = tmp_path_factory.mktemp("hub") / f"models--{REPOSITORY.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT / "atari_100k"
    for folder in ("models", "config/agent", "config/env"):
        (snapshot / folder).mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    shapes = json.loads((reference_dir / "checkpoint_keys_atari_breakout.json").read_text())
    weights = {name: 0.02 * torch.randn(shape) for name, shape in shapes.items()}
    torch.save(weights, snapshot / "models" / "Breakout.pt")
    shutil.copy(PROJECT / "config" / "agent" / "default.yaml", snapshot / "config" / "agent")
    (snapshot / "config" / "env" / "atari.yaml").write_text(
        "train:\n  id: null\n  done_on_life_loss: true\n  size: 64\n  max_episode_steps: null\n"
        "test:\n  id: ${..train.id}\n  done_on_life_loss: false\n  size: ${..train.size}\n"
        "  max_episode_steps: 108000\nkeymap: atari/${.train.id}\n"
    )
    return repository.parent


@pytest.fixture
def offline(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without network, with what was downloaded before."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(play, "PROJECT", tmp_path)


@pytest.mark.parametrize(
    ("game", "names"),
    [("Breakout", ["Breakout", "breakout", "BreakoutNoFrameskip-v4", " 8"]), ("csgo", ["csgo", "CSGO", "27"])],
)
def test_names_of_games(game: str, names: list[str]) -> None:
    assert [find_game(name) for name in names] == [game] * len(names)


def test_pretrained(
    offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "outputs" / "pretrained" / "Breakout"
    # Starts that are there are not collected again.
    dataset = Dataset(folder / "dataset" / "play_Breakout")
    dataset.add_episode(make_episode())
    dataset.save_info()
    options = ["--video", tmp_path / "a.mp4", "--steps", "2", "-r", "world_model_env.num_batches_to_preload=3"]
    assert call_door(monkeypatch, "--pretrained", "8", *options) == 0
    assert f"Playing {folder} (Breakout, cpu)" in capfd.readouterr().out
    assert Dataset.open(folder / "dataset" / "rec_wm_π").num_steps in (1, 2)
    assert call_door(monkeypatch, "--pretrained", "8", "-d", "--video", tmp_path / "b.mp4", "--steps", "1") == 0


def make_episode() -> Episode:
    zeros = torch.zeros(20)
    return Episode(torch.zeros(20, 3, 64, 64, dtype=torch.uint8), zeros.long(), zeros, zeros.byte(), zeros.byte())


def test_pretrained_menu(
    offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    for answer, game in (("8", "Breakout"), ("mspacman", "MsPacman"), ("26", "UpNDown")):
        monkeypatch.setattr("builtins.input", lambda question, answer=answer: answer)
        assert ask_for_game() == game
    shown = capfd.readouterr().out
    assert all(f"{number} {game}" in shown for number, game in enumerate(GAMES, start=1))
    monkeypatch.undo()
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(UserError, match="No game was chosen"):
        ask_for_game()


def test_pretrained_from_a_local_copy(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    monkeypatch.setattr(play, "PROJECT", tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(next(hub.glob("*/snapshots/*")), copy)
    # The same layout with small networks, as a thousand steps are collected.
    config = compose("env.train.size=64")
    torch.save(
        make_agent(read_settings(config)[1], Actions("numbered", 4), 0.1).state_dict(),
        copy / "atari_100k" / "models" / "Breakout.pt",
    )
    OmegaConf.save(config.agent, copy / "atari_100k" / "config" / "agent" / "default.yaml")
    options = ["--env", "test", "--video", tmp_path / "a.mp4", "--steps", "1"]
    assert call_door(monkeypatch, "--pretrained", "Breakout", "--local-dir", copy, *options) == 0
    assert "Collecting starts" in capfd.readouterr().err
    code = call_door(monkeypatch, "--pretrained", "Pong", "--local-dir", copy, *options)
    assert f"{copy} is no copy of {REPOSITORY}: it has no atari_100k/models/Pong.pt" in complaint(capfd, code)


def test_pretrained_mistakes(
    offline: None, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    line = complaint(capfd, call_door(monkeypatch, "--pretrained", "Brakout", "--benchmark", "1"))
    assert "There are no published weights of Brakout" in line
    assert "Did you mean Breakout?" in line
    line = complaint(capfd, call_door(monkeypatch, "--pretrained", "Pong", "--benchmark", "1"))
    assert "is not in the cache, and the Hugging Face Hub cannot be reached" in line
    line = complaint(capfd, call_door(monkeypatch, "--pretrained", "Pong", "--best"))
    assert "--pretrained cannot be combined with" in line
    assert "--local-dir needs --pretrained" in complaint(capfd, call_door(monkeypatch, "--local-dir", "there"))


def test_configuration_from_the_hub_runs_nothing(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(play, "PROJECT", tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(next(hub.glob("*/snapshots/*")), copy)
    agent = copy / "atari_100k" / "config" / "agent" / "default.yaml"
    whole, trace = agent.read_text(), tmp_path / "it ran"
    options = ["--pretrained", "Breakout", "--local-dir", copy, "--benchmark", "1"]
    agent.write_text(whole.replace("agent.AgentConfig", "os.system"))
    assert "_target_: os.system is not allowed" in complaint(capfd, call_door(monkeypatch, *options))
    agent.write_text(whole.replace("sigma_data: 0.5", f'sigma_data: ${{eval:\'open("{trace}", "w")\'}}'))
    assert "only arithmetic on numbers is allowed" in complaint(capfd, call_door(monkeypatch, *options))
    assert not trace.exists()
    agent.write_text(whole)
    weights = copy / "atari_100k" / "models" / "Breakout.pt"
    torch.save({"denoiser.weight": Path("a")}, weights)
    assert f"{weights} is refused" in complaint(capfd, call_door(monkeypatch, *options))


@pytest.mark.slow
def test_no_network_and_no_cache(tmp_path: Path) -> None:
    """The real client, whose every connection is refused at once."""
    env = {"HF_HUB_CACHE": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    result = runs.run([sys.executable, PROJECT / "src" / "play.py", "--pretrained", "Pong", "--benchmark", "1"], **env)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("error: atari_100k/models/Pong.pt of eloialonso/diamond is not in the cache")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--run", "nowhere"], "nowhere is not a run folder: a run has a config/trainer.yaml (or agent_config.json)"),
        (["--run", "{run}", "--epoch", "2"], "keeps no weights of epoch 2. Kept: 1, 3."),
        (["--run", "{run}", "--device", "gpu"], "--device gpu is unknown"),
        (["--run", "{run}", "--precision", "half"], "argument --precision: invalid choice: 'half'"),
        (["--run", "{run}", "--video", "film.avi"], "film.avi cannot be written: a film's name ends in .mp4 or .gif"),
        (["--run", "{run}", "--fps", "0"], "argument --fps: 0 is too small"),
        (["--run", "{run}", "--env", "moon"], "argument --env: invalid choice: 'moon'"),
        (["--run", "{run}", "--store-original-obs"], "need -r"),
        (["--horizon", "x"], "x is not a whole number"),
        (["--sise", "3"], "unrecognized arguments: --sise"),
        (["--web", "--fullscreen"], "--web cannot be combined with --fullscreen or --video"),
        (["--web", "--video", "a.mp4"], "--web cannot be combined with --fullscreen or --video"),
        (["--port", "8001"], "--port, --host and --max-players need --web"),
        (["--web", "--port", "70000"], "argument --port: 70000 is no port: 0 to 65535"),
        (["--web", "--run", "{run}", "--host", "192.0.2.1"], "of 192.0.2.1 cannot be served: "),
        (["--web", "--run", "{run}", "--epoch", "2"], "keeps no weights of epoch 2"),
        (["--mouse-sensitivity", "0"], "argument --mouse-sensitivity: 0 is not a number above 0"),
        (["--threads", "many"], "argument --threads: many is not a whole number"),
        (["-p", "Pong", "--run", "{run}"], "--pretrained cannot be combined with --run"),
        (["--run", "{run}", "--dataset-mode", "-r"], "-d cannot be combined with"),
        (["--size", "9000"], "--size 9000 is too large: 8192 at most"),
        (["--seed", "-1"], "argument --seed: "),
        (["--epoch", "1", "--best"], "not allowed with argument"),
        (["--run", "{run}", "-d", "-r"], "-d cannot be combined with"),
        (["--benchmark", "1", "--video", "a.mp4"], "--benchmark cannot be combined with -r or --video"),
        (["--run", "{run}", "--video", "{run}.mp4"], "run.mp4 cannot be written: it is a folder"),
        (["--run", "{run}", "--env", "test", "--video", "{run}/config/trainer.yaml/a.mp4"], "/config/trainer.yaml: "),
    ],
)
def test_mistakes(
    shared_run: RunFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    shared_run.path.with_suffix(".mp4").mkdir(exist_ok=True)
    code = call_door(monkeypatch, *[argument.format(run=shared_run.path) for argument in arguments])
    assert words in complaint(capfd, code)


def test_nothing_to_play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("trained.source.PROJECT", tmp_path)
    monkeypatch.chdir(tmp_path)
    line = complaint(capfd, call_door(monkeypatch))
    assert f"There is no run in {tmp_path}/outputs" in line
    assert "--pretrained" in line
    folder = make_run(tmp_path / "outputs" / "a" / "b", steps={})
    line = complaint(capfd, call_door(monkeypatch, "-d", "--run", folder.path))
    assert "There is no data set with an episode in this run." in line
    folder.best_agent.unlink()
    assert "has no checkpoints/best.pt" in complaint(capfd, call_door(monkeypatch, "--run", folder.path, "--best"))
    shutil.rmtree(folder.agent_versions)
    assert "has no weights yet" in complaint(capfd, call_door(monkeypatch, "--run", folder.path))
    assert "Kept: none yet" in complaint(capfd, call_door(monkeypatch, "--run", folder.path, "--epoch", "5"))


def test_weights_of_other_networks(
    shared_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(shared_run.path, folder.path)
    weights = load_tensors(folder.agent_version(3))
    torch.save({name: value for name, value in weights.items() if "conv_in" not in name}, folder.agent_version(3))
    line = complaint(capfd, call_door(monkeypatch, "--run", folder.path))
    assert f"{folder.agent_version(3)} does not fit this agent: it lacks denoiser.inner_model.conv_in.bias" in line
    torch.save({name: value for name, value in weights.items() if "actor" not in name}, folder.agent_version(3))
    assert "has no weights of the actor_critic" in complaint(capfd, call_door(monkeypatch, "--run", folder.path))
    folder.agent_version(3).write_bytes(b"no weights")
    assert "agent_epoch_00003.pt is damaged" in complaint(capfd, call_door(monkeypatch, "--run", folder.path))


def test_weights_to_start_from_are_not_needed_any_more(
    shared_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_run(shared_run, tmp_path / "run")
    config = folder.load_config()
    config.initialization.path_to_ckpt = str(tmp_path / "gone.pt")
    OmegaConf.save(config, folder.config)
    assert call_door(monkeypatch, "--run", folder.path, "--video", tmp_path / "a.mp4", "--steps", "1") == 0


def test_damaged_settings(
    shared_run: RunFolder, reference_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(shared_run.path, folder)
    config = folder / "config" / "trainer.yaml"
    for text, words in (
        ("a: [", f"{config} is not a file of settings: "),
        ("- a", f"{config} is not a file of settings: it holds no mapping of names to values"),
        ("a: 1", f"{config} has no section agent"),
    ):
        config.write_text(text)
        assert words in complaint(capfd, call_door(monkeypatch, "--run", folder))
    published = tmp_path / "published"
    shutil.copytree(reference_dir / "run", published)
    for text in ("[]", "{", '{"denoiser": 3}'):
        (published / "agent_config.json").write_text(text)
        assert "agent_config.json cannot be read: " in complaint(capfd, call_door(monkeypatch, "--run", published))


@pytest.fixture
def stranger(shared_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[RunFolder, Path]:
    """A run of somebody else whose environment is in a module, and the trace that importing the module leaves."""
    folder, trace = copy_run(shared_run, tmp_path / "run"), tmp_path / "it ran"
    (tmp_path / "stranger.py").write_text(f"open({str(trace)!r}, 'w').close()")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "stranger", raising=False)
    config = folder.load_config()
    for split in ("train", "test"):
        config.env[split] = {"_target_": "envs.GymConfig", "id": "stranger:Game-v0", "size": 16}
    OmegaConf.save(config, folder.config)
    return folder, trace


def test_modules_of_a_stranger_are_imported_with_trust_only(
    stranger: tuple[RunFolder, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    (folder, trace), film = stranger, ["--video", tmp_path / "a.gif", "--steps", "1"]
    question = "The environment id stranger:Game-v0 in the run folder would import the module stranger, which runs its"
    assert call_door(monkeypatch, "--run", folder.path, *film) == 0
    assert f"warning: there is no real environment here. {question} code: add --trust" in capfd.readouterr().err
    assert call_door(monkeypatch, "--run", folder.path, *film, "-d") == 0
    capfd.readouterr()
    assert question in complaint(capfd, call_door(monkeypatch, "--run", folder.path, *film, "--env", "test"))
    for split in ("train", "test"):
        shutil.rmtree(folder.dataset(split))
    code = call_door(monkeypatch, "--run", folder.path, *film)
    assert (code, question in capfd.readouterr().err) == (2, True)
    assert not trace.exists()
    call_door(monkeypatch, "--run", folder.path, *film, "--trust")
    assert trace.exists()


def test_an_algorithm_of_a_stranger(
    stranger: tuple[RunFolder, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    folder, trace = stranger
    config = folder.load_config()
    config.algorithm.name = "stranger:DEFINITION"
    OmegaConf.save(config, folder.config)
    for options in ([], ["-d"]):
        code = call_door(monkeypatch, "--run", folder.path, "--video", tmp_path / "a.gif", *options)
        assert complaint(capfd, code) == (
            "error: The algorithm stranger:DEFINITION in the run folder would import the module stranger, which runs "
            "its code: add --trust if you trust it."
        )
    assert not trace.exists()
    code = call_door(monkeypatch, "--run", folder.path, "--video", tmp_path / "a.gif", "--trust")
    assert "stranger has no Definition named DEFINITION" in complaint(capfd, code)
    assert trace.exists()


@pytest.mark.slow
def test_resuming_with_the_installed_code(stranger: tuple[RunFolder, Path], tmp_path: Path) -> None:
    """Neither the folder's code nor its modules run."""
    folder, trace = stranger
    shutil.copytree(PROJECT / "scripts", folder.path / "scripts")
    (folder.path / "src").mkdir()
    for path in (folder.path / "src" / "main.py", folder.path / ".venv" / "bin" / "python"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!{sys.executable}\nopen({str(trace)!r}, 'w').close()")
        path.chmod(0o755)
    script, env = PROJECT / "scripts" / "resume.sh", {"PYTHONPATH": str(tmp_path), "PYTHON": sys.executable}
    for options, words in (
        (["--code", "installed"], "would import the module stranger"),
        (["--code", "other"], "error: other is unknown here: ./scripts/resume.sh [--code installed"),
    ):
        result = runs.run([script, *options, folder.path], **env)
        assert (result.returncode, words in result.stderr) == (2, True), result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    result = runs.run([folder.path / "scripts" / "resume.sh", "--code=installed"], cwd=folder.path, **env)
    assert "error: this is the run's own copy of the code" in result.stderr
    assert not trace.exists()
    result = runs.run([script, "--code", "installed", "--trust", folder.path], **env)
    assert (result.returncode, "stranger" in result.stderr) == (2, True), result.stderr
    assert trace.exists()
    trace.unlink()
    assert runs.run([script, folder.path], **env).returncode == 0
    assert trace.exists()


@pytest.mark.slow
def test_a_run_plays_with_its_own_copy_of_the_code(shared_run: RunFolder, reference_dir: Path, tmp_path: Path) -> None:
    command = [sys.executable, shared_run.path / "src" / "play.py", "--benchmark", "1"]
    assert "world model: " in runs.run([*command, "--run", reference_dir / "run"]).stdout
    assert f"Playing {shared_run.path} " in runs.run(command, cwd=tmp_path).stdout


def test_a_run_on_data_from_elsewhere(
    shared_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    for static in (shared_run.path, shared_run.dataset("train")):
        folder = make_run(tmp_path / static.name, f"static_dataset.path={static}", steps={})
        assert call_door(monkeypatch, "--run", folder.path, "-d", "--video", tmp_path / "a.mp4", "--steps", "2") == 0
        assert "Data sets: train (" in capfd.readouterr().out
        # It starts from that data: nothing is collected.
        assert call_door(monkeypatch, "--run", folder.path, "--video", tmp_path / "a.mp4", "--steps", "1") == 0
        assert "Collecting starts" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("frame", "act", "words"),
    [
        ((3, 24, 24), torch.zeros(6, dtype=torch.int64), "The frames in .* are .3, 24, 24., but"),
        ((1, 16, 16), torch.zeros(6, dtype=torch.int64), "The frames in .* are .1, 16, 16., but"),
        ((3, 16, 16), torch.arange(6), "The actions in .* .6 numbered. are not those of .* .4 numbered."),
        ((3, 16, 16), torch.zeros(6, 2), "The actions in .* .2 continuous. are not those of .* .4 continuous."),
    ],
    ids=["size", "channels", "number", "entries"],
)
def test_data_that_does_not_fit_the_agent(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
    frame: tuple[int, int, int],
    act: torch.Tensor,
    words: str,
) -> None:
    flags = torch.zeros(len(act), dtype=torch.uint8)
    dataset = Dataset(tmp_path / "data")
    dataset.add_episode(Episode(torch.zeros(len(act), *frame, dtype=torch.uint8), act, flags.float(), flags, flags))
    dataset.save_info()
    folder = make_run(tmp_path / "run", f"static_dataset.path={dataset.directory}", steps={})
    code = call_door(monkeypatch, "--run", folder.path, "--video", tmp_path / "a.mp4", "--steps", "1")
    assert re.search(words, complaint(capfd, code))
    # Data that was copied into a run.
    folder = make_run(tmp_path / "own", steps={})
    shutil.copytree(dataset.directory, folder.dataset("test"))
    code = call_door(monkeypatch, "--run", folder.path, "--video", tmp_path / "a.mp4", "--steps", "1")
    assert re.search(words.replace(".4 continuous.", ".4 numbered."), complaint(capfd, code))


def without_display() -> dict[str, str]:
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    return {name: value for name, value in runs.environment().items() if name not in hidden}


@pytest.mark.slow
@pytest.mark.parametrize("mode", [[], ["-d"]])
def test_no_display(shared_run: RunFolder, tmp_path: Path, mode: list[str]) -> None:
    command = [sys.executable, PROJECT / "src" / "play.py", "--run", shared_run.path, *mode]
    for env in (without_display(), {**without_display(), "DISPLAY": ":4321", "XDG_RUNTIME_DIR": str(tmp_path)}):
        result = subprocess.run(command, env=env, capture_output=True, text=True)
        assert result.returncode == 2
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        assert lines == [f"error: There is no display here. Use {INSTEAD}."]


@pytest.mark.slow
def test_a_film_without_a_display_that_is_interrupted(shared_run: RunFolder, tmp_path: Path) -> None:
    folder, film = tmp_path / "run", tmp_path / "film.mp4"
    shutil.copytree(shared_run.path, folder)
    options = ["--run", folder, "--video", film, "--steps", "1000000", "--env", "test", "--size", "64", "-r"]
    command = [sys.executable, PROJECT / "src" / "play.py", *options]
    process = subprocess.Popen(
        command, env=without_display(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    part = tmp_path / ".film.part.mp4"
    for _ in range(600):
        if part.exists() and part.stat().st_size > 0:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    count = int(out.split("Film of ")[1].split()[0])
    assert len(read_film(film)) == count + 1
    recorded = Dataset.open(folder / "dataset" / "rec_test_π")
    # A step is shown for each that was taken, and the start of each further episode.
    assert recorded.num_steps == count - (recorded.num_episodes - 1)
