"""Begin a tiny run in the given folder, or resume it: `python tests/faults/tiny_run.py RUN_DIR`."""

import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

import main
from files import write_text_atomically
from run.door import explain
from run.folder import RunFolder
from run.ranks import Ranks
from training_helpers import CPU, compose

TINY = (
    "collection.train.num_steps_total=30",
    "collection.train.first_epoch.min=20",
    "collection.train.first_epoch.max=20",
    "collection.train.steps_per_epoch=10",
    "training.num_final_epochs=0",
    "evaluation.untrained=false",
    "evaluation.video_steps=1",
    "checkpointing.save_agent_every=1",
)


def work(path: Path, config: DictConfig) -> int:
    """Begin a run with these settings, or resume it with its own."""
    folder = RunFolder(path.resolve())
    # A run's copy of the code is left out: it is many files, of which none belongs to a checkpoint.
    if not folder.config.exists():
        write_text_atomically(folder.config, OmegaConf.to_yaml(config, resolve=True))
    return main.train(folder.load_config(), folder.path, False, Ranks(0, 1, CPU))


if __name__ == "__main__":
    sys.exit(explain(lambda: work(Path(sys.argv[1]), compose(*TINY)), "Stopped."))
