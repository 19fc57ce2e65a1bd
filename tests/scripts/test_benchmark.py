"""The benchmark where PyTorch and NumPy alone are installed, and the promises that can be tested without a clock."""

import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import benchmark
import runs
from agent import AgentConfig
from benchmarks.ways import NUM_ACTIONS, QUICK, Sizes, fill_replay, make_agent_config, make_float_episodes
from conftest import PROJECT
from data import draw_segments, segment_by_segment
from rl.rollout import Rollouts
from run.config import build, register_resolvers
from run.folder import RunFolder

ALONE = """
import runpy, sys
from importlib.machinery import PathFinder
class Others:
    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in {missing} else PathFinder.find_spec(name, path, target)
sys.meta_path = [finder for finder in sys.meta_path if finder is not PathFinder] + [Others()]
sys.argv = {argv}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_alone(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the script where nothing that the requirements name can be imported, except PyTorch and NumPy."""
    lines = (PROJECT / "requirements.txt").read_text().splitlines()
    named = {re.split("[=<>]", line)[0].lower() for line in lines} - {"torch", "numpy"}
    modules = {"hydra-core": "hydra", "ale-py": "ale_py", "pillow": "PIL", "imageio-ffmpeg": "imageio_ffmpeg"}
    missing = {modules.get(name, name) for name in named} | {"yaml"}
    argv = [str(PROJECT / "scripts" / "benchmark.py"), *map(str, arguments)]
    code = ALONE.format(missing=missing, argv=argv)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=runs.environment()
    )


@pytest.mark.slow
def test_benchmark_needs_torch_and_numpy_alone(tmp_path: Path) -> None:
    result = run_alone("--quick", "--eager", "--output", tmp_path, "--device", "cpu")
    assert result.returncode == 0, result.stderr
    (path,) = tmp_path.glob("*.json")
    content = json.loads(path.read_text())
    names = [each["name"] for each in content["results"]]
    assert names == [
        "denoiser update",
        "reward/end update",
        "actor-critic update",
        "imagined step, batch 1",
        "imagined step, batch 4",
        "batch of 4×6 frames",
        "batch of 4×19 frames",
        "DreamerV3 update",
        "DreamerV3 optimizer",
    ]
    for each in content["results"]:
        assert each["ratio"] == pytest.approx(each["plain_seconds"] / each["default_seconds"])
        assert (
            (each["tflop"] > 0)
            == (each["eager_gb_moved"] > 0)
            == (each["name"].split()[0] not in ("batch", "DreamerV3"))
        )
        assert each["name"] in result.stdout
    assert content["steps_per_second"] == {}
    assert content["full_frames_seconds"] is None
    assert "whole update" in result.stdout
    assert "Updates of a full Atari 100k run at this pace: " in result.stdout


def test_collection_is_measured_where_the_emulator_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = [
        "--quick",
        "--eager",
        "--only",
        "collection",
        "full_frames",
        "--output",
        str(tmp_path),
        "--device",
        "cpu",
    ]
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *options])
    benchmark.main()
    (path,) = tmp_path.glob("*.json")
    rates = json.loads(path.read_text())["steps_per_second"]
    assert rates.keys() == {
        "collection, 1 environment",
        "model-free rollouts, 32 environments",
        "emulators alone, 32 environments",
        "PPO collection, 8 environments, agent=encoder",
    }
    assert min(rates.values()) > 0
    assert json.loads(path.read_text())["full_frames_seconds"] > 0


@pytest.mark.slow
def test_a_killed_benchmark_keeps_what_it_measured(tmp_path: Path) -> None:
    options = ["--quick", "--eager", "--dreamer-unit", "4", "--output", str(tmp_path), "--device", "cpu"]
    process = subprocess.Popen([sys.executable, PROJECT / "scripts" / "benchmark.py", *options], env=runs.environment())
    while not (found := list(tmp_path.glob("*.json"))):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    content = json.loads(found[0].read_text())
    assert content["results"][0]["name"] == "denoiser update"
    assert content["sizes"]["dreamer_unit"] == 4


def test_the_networks_are_the_default_ones() -> None:
    register_resolvers()
    settings = {"agent": OmegaConf.load(PROJECT / "config" / "agent" / "default.yaml"), "env": {"train": {"size": 64}}}
    theirs = build(AgentConfig, OmegaConf.create(settings).agent, "agent")
    assert make_agent_config(Sizes()) == replace(theirs, num_actions=NUM_ACTIONS)


def test_both_ways_draw_the_same_batches() -> None:
    """Except for the frames, which the straightforward way keeps as float32."""
    replay = fill_replay(QUICK, torch.device("cpu"))
    floats = make_float_episodes(QUICK)
    assert [len(episode) for episode in floats] == replay.episode_lengths.tolist()
    assert floats[0].obs.dtype == torch.float32
    rng = np.random.default_rng(0)
    segments = draw_segments(rng, replay.episode_lengths, 8, 6, None, beyond_end=True)
    plain, fast = segment_by_segment(floats, segments), replay.gather(segments)
    assert plain.frames.shape == fast.frames.shape
    assert torch.equal(plain.mask_padding, fast.mask_padding)
    assert (plain.frames[~plain.mask_padding] == 0).all()


def test_a_run_folder_has_a_benchmark_of_its_own(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", OmegaConf.create({}))
    command = [sys.executable, folder.path / "scripts" / "benchmark.py", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (
        "--only {denoiser,rew_end_model,actor_critic,imagination,batches,dreamer,collection,full_frames}"
        in result.stdout
    )


@pytest.mark.slow
def test_no_value_is_read_on_the_host_in_a_rollout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    options = ["--quick", "--eager", "--profile", "--output", str(tmp_path), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *options])
    benchmark.main()
    (path,) = tmp_path.glob("*_rollout_profile.txt")
    assert "Operations in which the host waits for a value: none." in path.read_text()
    assert "aten::" in capsys.readouterr().out
    # The check can fail: a rollout that reads one value is reported.
    collect = Rollouts.collect
    monkeypatch.setattr(Rollouts, "collect", lambda self: (float(torch.zeros(())), collect(self))[1])
    benchmark.main()
    assert "'aten::_local_scalar_dense': 1" in path.read_text()


@pytest.mark.slow
def test_a_hundred_thousand_atari_steps_fit_in_two_gigabytes() -> None:
    """The whole process, at its peak, while they come in episodes."""
    code = f"""
import sys; sys.path.insert(0, {str(PROJECT / "src")!r})
import torch
from data import Episode, Replay
replay = Replay(torch.device("cpu"), 100_000)
for _ in range(250):
    flags = torch.zeros(400, dtype=torch.uint8)
    obs = torch.full((400, 3, 64, 64), 7, dtype=torch.uint8)
    replay.add_episode(Episode(obs, flags.long(), flags.float(), flags, flags))
assert replay.num_steps == 100_000
import re, resource
from pathlib import Path
status = Path("/proc/self/status")
if status.exists():  # getrusage would count the peak of the parent process too
    print(1024 * int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]))
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 1.2e9 < int(result.stdout) < 2e9


@pytest.mark.slow
def test_precision_script(tmp_path: Path) -> None:
    options = ["--updates", "2", "--batch-size", "1", "--networks", "quickstart", "--eager", "--device", "cpu"]
    command = [sys.executable, PROJECT / "scripts" / "precision.py", *options, "--output", tmp_path]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    numbers = json.loads((tmp_path / "precision.json").read_text())
    plain, fast, nearby = numbers["losses"].values()
    # The same segments and the same noise.
    assert plain == pytest.approx(fast, rel=0.02)
    assert plain == pytest.approx(nearby, rel=0.02)
    differences = [np.mean(losses) / np.mean(plain) - 1 for losses in (fast, nearby)]
    assert list(numbers["difference"].values()) == pytest.approx(differences)
    assert (tmp_path / "precision.png").stat().st_size > 5000
