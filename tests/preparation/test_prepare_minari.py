"""Minari data sets become data sets of this project, by the real command in this process."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec

import prepare_minari
import runs
from conftest import PROJECT
from data import Dataset
from data.full_frames import FILE_ID
from envs.kitchen import QUICK
from envs.pictures import to_frames
from envs.robotics import import_robotics
from kitchen_data import STEPS, require_opengl, require_robotics, write_images, write_part
from preparation.minari_episodes import COMPLETIONS
from preparation.minari_source import MinariSource, open_minari
from preparation.pairs import read_pairs
from preparation.rendering import Renderer


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    """Call the script in this process; returns its exit code and what it printed."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["prepare_minari.py", "--workers", "1", *map(str, arguments)])
        capfd.readouterr()
        code = prepare_minari.main()
        return code, *capfd.readouterr()

    return call


@pytest.fixture
def complain(call: Callable[..., tuple[int, str, str]]) -> Callable[..., str]:
    """The one line of a mistake, after the progress bar."""

    def complain(*arguments: str | Path) -> str:
        code, _, words = call(*arguments)
        assert code == 2, words
        assert "Traceback" not in words
        lines = [line for line in words.splitlines() if line.strip() and "it/s]" not in line and "?it" not in line]
        assert len(lines) == 1, words
        return lines[0]

    return complain


def files(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.pt")}


def edit_metadata(folder: Path, **changes: object) -> None:
    path = folder / "data" / "metadata.json"
    metadata = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in metadata.items() if value is not None}))


def test_frames_as_published(reference_dir: Path) -> None:
    """Within half a grey level: ours are rounded to bytes. Colours are truncated there, too, and are equal."""
    recorded = torch.load(reference_dir / "kitchen_small.pt", weights_only=True)["frames"]
    size = (recorded["size"],) * 2
    for pictures, tensors in (("rgb", "gray"), ("rgb_of_that_size", "gray_of_that_size")):
        ours = to_frames(recorded[pictures].numpy(), size, is_grey=True)
        assert (ours - (recorded[tensors] + 1) * 127.5).abs().max() <= 0.5 + 1e-3
    ours = to_frames(recorded["rgb"].numpy(), size, is_grey=False)
    assert torch.equal(ours, ((recorded["rgb_tensors"] + 1) * 127.5).round().byte())


def test_recorded_images(tmp_path: Path, call: Callable[..., tuple[int, str, str]]) -> None:
    require_robotics()
    source = write_images(tmp_path / "source", [6, 3, 9])
    (tmp_path / "test.txt").write_text("episode_1\n")
    out = tmp_path / "out"
    arguments = (source, "--color", "--size", "32x40", "--test-list", tmp_path / "test.txt", "--out", out)
    code, words, _ = call(*arguments)
    assert code == 0
    # 6 - 5 and 9 - 5 pairs, and none in the episode of 3 steps.
    assert f"Episodes: 2 to train on, 1 to test on, in {out}\nPairs of frames 5 steps apart: 5\n" in words
    train = Dataset.open(out / "train")
    assert train.lengths == [6, 9]
    assert train.info.is_static
    stored = MinariSource(source / "data").load(2)
    episode = train.load_episode(1)
    pictures = torch.from_numpy(stored.observations).permute(0, 3, 1, 2)
    assert torch.equal(episode.obs, pictures[:-1])
    assert torch.equal(episode.info["final_observation"], pictures[-1])
    assert episode.act.tolist() == (stored.actions - 3).tolist()
    assert episode.end.tolist() == [0] * 8 + [1]
    assert episode.info[FILE_ID] == "test/part-v0 episode 2"
    # Nothing is made twice, unless other frames are wanted.
    before = {path: path.stat().st_mtime_ns for path in (out / "train").glob("*/*/*/*.pt")}
    assert call(*arguments)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert call(source, "--size", "16", "--out", out)[0] == 0
    assert Dataset.open(out / "train").load_episode(2).obs.shape == (9, 1, 16, 16)


@pytest.mark.slow
def test_it_resumes_to_the_same_files(tmp_path: Path, call: Callable[..., tuple[int, str, str]]) -> None:
    require_robotics()
    source = write_images(tmp_path / "source", [30] * 12)
    assert call(source, "--out", tmp_path / "whole")[0] == 0
    out = tmp_path / "stopped"
    command = [sys.executable, PROJECT / "scripts" / "prepare_minari.py", source, "--workers", "1", "--out", out]
    for wanted in (1, 6):
        process = subprocess.Popen(
            command, env=runs.environment(), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        while process.poll() is None and len(list(out.rglob("*.pt"))) < wanted:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert call(source, "--out", out)[0] == 0
    assert files(out) == files(tmp_path / "whole")
    assert not list(out.rglob("*.part"))


def test_the_example(reference_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lengths and completions are those that the specification of the example states."""
    require_robotics()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(reference_dir / "minari_kitchen"))
    source = open_minari("kitchen/scripted-v0")
    assert source.lengths == [81, 93, 178, 105]
    completions = [source.load(index).first_completions() for index in range(4)]
    assert completions == [{"kettle": 40}, {"slide cabinet": 55}, {"kettle": 40, "slide cabinet": 136}, {}]


@pytest.mark.slow
def test_states_and_replay_show_the_same(
    reference_dir: Path, tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    """From the stored seed a replay is exact; stored states differ by their noise, by 0.1 grey levels or less."""
    require_opengl()
    source = write_part(reference_dir, tmp_path / "source", episodes=1)
    for render in ("states", "replay"):
        arguments = ("--render", render, "--quick", "--size", "32", "--k", "2", "--out", tmp_path / render)
        code, words, complaint = call(source, *arguments)
        assert code == 0, complaint
        assert "Pairs of frames 2 steps apart: 2\n" in words
    states, replay = [Dataset.open(tmp_path / render / "train").load_episode(0) for render in ("states", "replay")]
    stored = MinariSource(source / "data").load(0)
    assert torch.equal(states.act, torch.from_numpy(stored.actions).float())
    assert states.act.shape == (STEPS, 9)
    assert COMPLETIONS not in states.info
    drawn = _draw_by_hand(stored.actions, stored.seed)
    frames = torch.cat((replay.obs, replay.info["final_observation"][None]))
    assert torch.equal(frames, to_frames(drawn, (32, 32), is_grey=True))
    others = torch.cat((states.obs, states.info["final_observation"][None]))
    assert (frames.float() - others.float()).abs().mean() < 0.2
    assert (frames[0].float() - frames[-1].float()).abs().mean() > 0.5


@pytest.mark.slow
def test_frames_of_the_published_program(
    reference_dir: Path, tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    """Every episode begins with the same scene, which its recorded file of pairs shows.

    Sensor noise is 0.1 of 255 grey levels; the scene without shadows differs by 14, and a step later by more than 1.
    """
    require_opengl()
    source = write_part(reference_dir, tmp_path / "source", episodes=1, steps=2)
    arguments = ("--size", "32", "--k", "1", "--out", tmp_path / "out")
    code, _, complaint = call(source, *arguments)
    assert code == 0, complaint
    obs = Dataset.open(tmp_path / "out" / "train").load_episode(0).obs
    theirs = read_pairs(reference_dir / "kitchen_run" / "pairs" / "pairs_k3_32x32.pkl")
    for frames in theirs.values():
        first = torch.from_numpy(frames[0]).permute(2, 0, 1)
        assert (obs[0].float() - first.float()).abs().mean() < 0.5
        assert (obs[1].float() - first.float()).abs().mean() > 1


def _draw_by_hand(actions: np.ndarray, seed: int) -> np.ndarray:
    """The published way: render, then step, for each action; and the picture after the last."""
    import gymnasium

    env = gymnasium.make("FrankaKitchen-v1", render_mode="rgb_array", width=QUICK.side, height=QUICK.side)
    env.unwrapped.model.vis.quality.shadowsize = QUICK.shadow_map
    env.unwrapped.model.vis.quality.offsamples = QUICK.samples
    env.reset(seed=seed)
    pictures = [env.render()]
    for act in actions:
        env.step(act)
        pictures.append(env.render())
    env.close()
    return np.stack(pictures)


def test_mistakes(tmp_path: Path, complain: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    require_robotics()
    from huggingface_hub import constants

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "sets"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    source = write_images(tmp_path / "sets" / "test" / "part-v0", [6], shape=(32, 40))
    grey = tmp_path / "out"
    assert "--k 6 is longer than every episode: the longest has 6 steps" in complain(source, "--k", "6")
    assert "The pictures are grey: leave out --color" in complain("test/part-v0", "--color", "--out", grey)
    assert "there is no" in complain(tmp_path)
    for word in ("part", "part-v", "../part-v0", "a b-v0"):
        assert "is neither a folder nor the id of a Minari data set" in complain(word)
    words = complain("test/pert-v0")
    assert "test/pert-v0 is not in" in words
    assert "cannot be downloaded" in words
    assert "Did you mean test/part-v0?" in words
    edit_metadata(source, minari_version="9.9")
    assert "does not support the dataset generated by Minari 9.9" in complain(source)
    edit_metadata(source, minari_version="0.5.4", total_episodes=3)
    assert "cannot be read as a Minari data set" in complain(source)
    edit_metadata(source, total_episodes=0)
    assert "holds no episodes" in complain(source)
    (source / "data" / "metadata.json").write_text("[]")
    assert "metadata.json cannot be read: not a mapping" in complain(source)
    (source / "data" / "metadata.json").unlink()
    (source / "data" / "metadata.json").mkdir()
    assert "is no Minari data set" in complain(source)
    monkeypatch.setitem(sys.modules, "minari", None)
    assert "Minari data sets need Minari" in complain("kitchen/partial-v2")


def test_no_file_names_code_that_runs(reference_dir: Path, tmp_path: Path, complain: Callable[..., str]) -> None:
    """A data set names its environment by an entry point, which could be any function."""
    require_robotics()
    source = write_part(reference_dir, tmp_path / "source", episodes=1, steps=6)
    canary = tmp_path / "canary"
    hostile = {"id": "Mine-v0", "entry_point": "os:system", "kwargs": {"command": f"touch {canary}"}}
    wrapper = {"name": "x", "entry_point": "os:system", "kwargs": {"command": f"touch {canary}"}}
    arguments = (source, "--out", tmp_path / "out")
    plain = {"id": "FrankaKitchen-v1", "entry_point": "os:system", "kwargs": {}}
    for spec, words in (
        (hostile, "The environment Mine-v0 cannot be recovered"),
        (hostile | {"id": "os:system"}, "The environment os:system cannot be recovered"),
        (hostile | {"id": "GymV26Environment-v0"}, "The environment GymV26Environment-v0 cannot be recovered"),
        (plain | {"additional_wrappers": [wrapper]}, "it has the wrappers x"),
        (plain | {"kwargs": {"tasks": ["kettle"]}}, "The environment FrankaKitchen-v1 cannot be recovered"),
        (plain | {"kwargs": {"tasks_to_complete": ["nothing"]}}, "FrankaKitchen-v1 cannot be recovered: The task"),
        (plain | {"id": "FrankaKitchn-v1"}, "Did you mean FrankaKitchen-v1"),
    ):
        edit_metadata(source, env_spec=json.dumps({"additional_wrappers": [], **spec}))
        assert words in complain(*arguments)
    # Minari makes the environment when a space is missing.
    edit_metadata(source, env_spec=json.dumps(hostile), action_space=None)
    assert "names no dataset_id, or not both spaces" in complain(*arguments)
    assert not canary.exists()


def test_data_without_images_or_environment(reference_dir: Path, tmp_path: Path, complain: Callable[..., str]) -> None:
    require_robotics()
    source = write_part(reference_dir, tmp_path / "source", episodes=1, steps=6)
    edit_metadata(source, env_spec=None)
    assert "does not say in which environment it was recorded" in complain(source, "--out", tmp_path / "out")
    edit_metadata(source, env_spec="{}")
    assert "cannot be read as a Minari data set" in complain(source, "--out", tmp_path / "out")
    spec = {"id": "CartPole-v1", "kwargs": {}, "additional_wrappers": []}
    edit_metadata(source, env_spec=json.dumps(spec))
    words = complain(source, "--render", "states", "--out", tmp_path / "out")
    assert "does not store the states of its environment: use --render replay" in words


@pytest.mark.slow
def test_no_opengl(reference_dir: Path, tmp_path: Path) -> None:
    require_robotics()
    source = write_part(reference_dir, tmp_path / "source", episodes=1, steps=6)
    command = [sys.executable, PROJECT / "scripts" / "prepare_minari.py", source, "--out", tmp_path / "out"]
    environment = dict.fromkeys(("DISPLAY", "WAYLAND_DISPLAY"), "")
    for chosen in ("glfw", "nonsense"):
        result = runs.run(command, MUJOCO_GL=chosen, **environment)
        assert result.returncode == 2, result.stderr
        assert f"MuJoCo cannot draw: MUJOCO_GL={chosen}, and there is no OpenGL" in result.stderr
        assert "MUJOCO_GL=osmesa (Debian: apt install libosmesa6)" in result.stderr
        assert "Traceback" not in result.stderr


def test_mujoco_is_missing_or_too_new(
    reference_dir: Path, tmp_path: Path, complain: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    require_robotics()
    # Otherwise it would be imported without MuJoCo, and stay so.
    import_robotics()
    source = write_part(reference_dir, tmp_path / "source", episodes=1, steps=6)
    newer = tmp_path / "packages" / "mujoco-4.0.0.dist-info"
    newer.mkdir(parents=True)
    (newer / "METADATA").write_text("Metadata-Version: 2.1\nName: mujoco\nVersion: 4.0.0\n")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(newer.parent))
        words = complain(source, "--out", tmp_path / "out")
    assert "MuJoCo 4.0.0 is too new for Gymnasium-Robotics: versions before 3.12 work" in words
    monkeypatch.setitem(sys.modules, "mujoco", None)
    words = complain(source, "--out", tmp_path / "out")
    assert "Simulated robots need MuJoCo and Gymnasium-Robotics" in words
    assert "pip install -r requirements-robotics.txt" in words


def test_other_environments_are_drawn_by_replay(reference_dir: Path) -> None:
    """CartPole's pictures need pygame only: 1 picture more than actions."""
    require_robotics()
    renderer = Renderer("test", EnvSpec("CartPole-v1"), QUICK)
    stored = MinariSource(reference_dir / "minari_kitchen" / "kitchen" / "scripted-v0" / "data").load(0)
    episode = replace(stored, observations=np.zeros((4, 4)), actions=np.array([1, 1, 0]), rew=torch.zeros(3))
    pictures = list(renderer.draw(episode, None, seed=3))
    assert [picture.shape for picture in pictures] == [(400, 600, 3)] * 4
    assert (pictures[0] != pictures[3]).any()
    renderer.close()
