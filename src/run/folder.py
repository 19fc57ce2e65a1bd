"""The folder of a run: its paths, creating a new one, and opening an existing one."""

import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from errors import UserError
from files import write_text_atomically
from run.settings import load_yaml

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class RunFolder:
    """Paths inside one run folder."""

    path: Path

    @property
    def state(self) -> Path:
        """Everything needed to resume."""
        return self.path / "checkpoints" / "state.pt"

    def columns(self, num_steps: int, num_updates: int) -> Path:
        """What an algorithm added to the replay, when it had that many steps and updates."""
        return self.state.with_name(f"columns_{num_steps}_{num_updates}.pt")

    def remove_columns(self, kept: str | None) -> None:
        """Remove the columns of all checkpoints except those in the file of this name."""
        for path in self.state.parent.glob("columns_*.pt"):
            if path.name != kept:
                path.unlink()

    @property
    def best_agent(self) -> Path:
        return self.path / "checkpoints" / "best.pt"

    def next_best_agent(self, epoch: int) -> Path:
        """The best weights of an evaluation that no checkpoint includes yet."""
        return self.best_agent.with_name(f".best_epoch_{epoch:05d}.pt")

    @property
    def agent_versions(self) -> Path:
        return self.path / "checkpoints" / "agent_versions"

    def agent_version(self, epoch: int) -> Path:
        return self.agent_versions / f"agent_epoch_{epoch:05d}.pt"

    @property
    def config(self) -> Path:
        return self.path / "config" / "trainer.yaml"

    def dataset(self, split: str) -> Path:
        return self.path / "dataset" / split

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def media(self) -> Path:
        return self.path / "media"

    @classmethod
    def create(cls, path: Path, config: DictConfig) -> "RunFolder":
        """Make the folder of a new run, with the resolved configuration and a copy of the code.

        Raises UserError if the folder already holds a run.
        """
        folder = cls(Path(path).resolve())
        if folder.config.exists() or folder.state.exists():
            raise UserError(f"{folder.path} already holds a run. Resume it with {resume_command(folder)}.")
        folder.path.mkdir(parents=True, exist_ok=True)
        for name in ("src", "scripts", "config/world_model_env"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(PROJECT / name, folder.path / name, ignore=ignored, dirs_exist_ok=True)
        folder.media.mkdir(exist_ok=True)
        write_text_atomically(folder.config, OmegaConf.to_yaml(config, resolve=True))
        return folder

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Open an existing run folder; raises UserError if it is not one."""
        folder = cls(Path(path).resolve())
        if not folder.config.is_file():
            raise UserError(f"{folder.path} is not a run folder: it has no {folder.config.relative_to(folder.path)}.")
        return folder

    def remove_parts(self) -> None:
        """Remove files that a killed process of this run did not finish writing.

        Other data sets in the folder are left alone: someone may be recording.
        """
        folders = ("checkpoints", "config", "media", "dataset/train", "dataset/test")
        found = [path for folder in folders for path in (self.path / folder).rglob(".*")]
        for path in [*found, *self.path.glob(".*")]:
            if _PART.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                path.unlink()

    def load_config(self) -> DictConfig:
        return load_yaml(self.config)

    def keep(self, config: DictConfig) -> None:
        """Change the settings of the run, if these are others, so that it resumes with them from now on."""
        if OmegaConf.to_container(self.load_config(), resolve=True) != OmegaConf.to_container(config, resolve=True):
            write_text_atomically(self.config, OmegaConf.to_yaml(config, resolve=True))


def resume_command(folder: RunFolder) -> str:
    """The command that resumes a run from the current folder."""
    here = Path.cwd()
    if not (here / "scripts" / "resume.sh").is_file():
        return shlex.quote(str(folder.path / "scripts" / "resume.sh"))
    if folder.path == here:
        return "./scripts/resume.sh"
    path = folder.path.relative_to(here) if folder.path.is_relative_to(here) else folder.path
    return f"./scripts/resume.sh {shlex.quote(str(path))}"


# The temporary names of `files.write_atomically` and `run.media.write_video`.
_PART = re.compile(r"\..+\.\d+\.part|\..+\.part\.(mp4|gif|png)")
