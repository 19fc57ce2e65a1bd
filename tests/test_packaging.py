"""What other tools read: the project's metadata, the citation, and the steps of the Dockerfile."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from conftest import PROJECT

METADATA = tomllib.loads((PROJECT / "pyproject.toml").read_text())


def test_every_module_is_installed() -> None:
    listed = set(METADATA["tool"]["setuptools"]["py-modules"])
    assert listed == {path.stem for path in (PROJECT / "src").glob("*.py")}
    packages = {path.name for path in (PROJECT / "src").iterdir() if (path / "__init__.py").is_file()}
    assert listed | packages == set(METADATA["tool"]["importlinter"]["root_packages"])
    assert (PROJECT / "src" / "game" / "web" / METADATA["tool"]["setuptools"]["package-data"]["game.web"][0]).is_file()


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    assert citation["version"] == METADATA["project"]["version"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()


def test_the_contributors_page_names_files_that_exist() -> None:
    page = (PROJECT / "CONTRIBUTING.md").read_text()
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", page)]
    assert len(links) > 10
    assert [link for link in links if not (PROJECT / link).exists()] == []


@pytest.mark.slow
def test_the_steps_of_the_dockerfile(tmp_path: Path) -> None:
    """Without Docker: its copies are made, and its command line is understood in the copy."""
    steps = [line.split(maxsplit=1) for line in (PROJECT / "Dockerfile").read_text().splitlines() if line[:1].isupper()]
    for _, arguments in (step for step in steps if step[0] == "COPY"):
        *sources, target = arguments.split()
        for source in sources:
            place = tmp_path / target
            if (PROJECT / source).is_dir():
                shutil.copytree(PROJECT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(PROJECT / source, place)
    (install,) = [arguments for name, arguments in steps if name == "RUN" and "pip install" in arguments]
    assert "-r requirements.txt" in install
    assert (tmp_path / "requirements.txt").is_file()
    command = next(arguments for name, arguments in steps if name == "CMD")
    serve = shlex.split(command.split("exec ")[1].rstrip('"]'))
    assert serve[:2] == ["python", "src/play.py"]
    # There is no run yet: the copy says so, in one line.
    result = subprocess.run([sys.executable, *serve[1:]], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 2
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: outputs/quickstart is not a run folder")
