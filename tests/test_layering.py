"""Floors: which files may import which, without cycles, as import-linter contracts."""

import os
import pkgutil
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import algorithms as algorithms_package
import runs
from agent import AgentConfig
from conftest import PROJECT


def lint(source: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of `pyproject.toml` on the files in `source`.

    import-linter supports only packages, so single files are laid out as packages of the same name.
    """
    house = tmp_path / "house"
    shutil.copytree(source, house, ignore=shutil.ignore_patterns("__pycache__"))
    for module in house.glob("*.py"):
        package = module.with_suffix("")
        package.mkdir()
        module.rename(package / "__init__.py")
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--config", PROJECT / "pyproject.toml"]
    environment = {**os.environ, "PYTHONPATH": str(house)}
    return subprocess.run(command, cwd=house, env=environment, capture_output=True, text=True)


def test_floors_are_kept(tmp_path: Path) -> None:
    result = lint(PROJECT / "src", tmp_path)
    assert result.returncode == 0, result.stdout


def test_a_broken_floor_is_noticed(tmp_path: Path) -> None:
    source = tmp_path / "src"
    shutil.copytree(PROJECT / "src", source)
    with open(source / "data" / "episode.py", "a") as file:
        file.write("\nimport agent\n")
    assert lint(source, tmp_path).returncode == 1


def test_a_circle_inside_a_floor_is_noticed(tmp_path: Path) -> None:
    source = tmp_path / "src"
    shutil.copytree(PROJECT / "src", source)
    with open(source / "data" / "frames.py", "a") as file:
        file.write("\nfrom data.replay import Replay\n")
    assert lint(source, tmp_path).returncode == 1


def test_the_rooms_below_the_algorithms_name_none_of_them() -> None:
    """Neither algorithms nor their components appear there by name."""
    components = [field.name for field in fields(AgentConfig) if field.name != "num_actions"]
    folders = [each.name for each in pkgutil.iter_modules(algorithms_package.__path__) if each.ispkg]
    algorithms = [rf"\b{name}\b" for name in algorithms_package.packages()]
    assert {"denoiser", "actor_critic"} <= set(components)
    assert {"diamond", "model_free"} <= set(folders)
    assert r"\bppo\b" in algorithms
    names = [*components, *folders, *algorithms, "ActorCritic", "Denoiser", "RewEndModel"]
    words = re.compile("|".join(names), re.IGNORECASE)
    rooms = [PROJECT / "src" / "trainer.py", PROJECT / "src" / "component.py"]
    for room in ("training", "run", "data"):
        rooms += (PROJECT / "src" / room).rglob("*.py")
    found = [f"{path}: {word}" for path in rooms for word in words.findall(path.read_text())]
    assert found == []


def test_a_training_step_passes_through_ten_files_at_most(tmp_path: Path) -> None:
    """Project files on the way from the command line to a network's `forward`."""
    code = f"""
import os, runpy, sys, traceback
sys.path[:0] = [{str(PROJECT / "src")!r}]
sys.argv = ["main.py", *{[*runs.BREAKOUT, *runs.SMALL_NETWORKS, *runs.SHORT_SCHEDULE]!r}, "hydra.run.dir={tmp_path}"]
from torch import nn

def show(module, *_):
    if type(module).__name__ == "InnerModel" and module.training:
        files = dict.fromkeys(frame.filename for frame in traceback.extract_stack())
        print(*[name for name in files if name.startswith({str(PROJECT / "src")!r})], sep="\\n", flush=True)
        os._exit(0)

nn.modules.module.register_module_forward_hook(show)
runpy.run_path({str(PROJECT / "src" / "main.py")!r}, run_name="__main__")
"""
    result = runs.run([sys.executable, "-c", code])
    files = result.stdout.splitlines()
    files = [line for line in files if line.startswith(str(PROJECT / "src"))]
    names = [Path(line).name for line in files]
    assert {"main.py", "trainer.py", "component.py", "denoiser.py"} <= set(names), result.stdout + result.stderr
    assert len(names) <= 10, names
