"""The floors of the house: who may import whom, and no circles, as import-linter contracts."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import PROJECT


def lint(source: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of `pyproject.toml` on the files in `source`.

    import-linter knows packages only, so single files are laid out as packages of the same name.
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
