"""The files of weights in a run folder."""

from collections.abc import Sequence
from pathlib import Path

from agent import SAFETENSORS
from errors import UserError
from files import load_tensors
from run.folder import RunFolder


def choose_weights(run: RunFolder, epoch: int | None, best: bool) -> Path:
    """The file of the weights of an epoch, of the best ones, or of the newest; raises UserError if it is missing."""
    if best:
        if (path := _stored(run.best_agent)) is not None:
            return path
        raise UserError(f"{run.path} has no checkpoints/best.pt: its agent was never evaluated. Leave out --best.")
    if epoch is not None:
        if (path := _stored(run.agent_version(epoch))) is not None:
            return path
        raise UserError(f"{run.path} keeps no weights of epoch {epoch}. Kept: {_listed(_versions(run))}.")
    newest = newest_weights(run)
    if newest is None:
        raise UserError(f"{run.path} has no weights yet: its first checkpoint was not written.")
    return newest


def newest_weights(run: RunFolder) -> Path | None:
    """The newest weights that were saved, or else those of the last checkpoint; None if there are none yet."""
    versions = _versions(run)
    return _stored(run.agent_version(versions[-1])) if versions else run.state if run.state.is_file() else None


def kept_epochs(run: RunFolder, every: int) -> list[int]:
    """The epochs divisible by `every` whose weights a run keeps; raises UserError if there are none."""
    versions = _versions(run)
    if chosen := [epoch for epoch in versions if epoch % every == 0]:
        return chosen
    raise UserError(f"{run.path} keeps no weights of an epoch divisible by {every}. Kept: {_listed(versions)}.")


def epoch_of(path: Path, run: RunFolder) -> int | None:
    """The last whole epoch that weights were trained for; None if nothing tells."""
    if path.parent == run.agent_versions:
        return int(path.stem.rpartition("_")[2])
    try:
        state = load_tensors(run.state, maps=True)
    except UserError:
        return None
    progress = state.get("progress") if isinstance(state, dict) else None
    if not isinstance(progress, dict):
        return None
    epoch = progress.get("best_epoch") if path == run.best_agent else progress.get("epoch")
    if not isinstance(epoch, int):
        return None
    # A checkpoint counts the epoch that it is in.
    return epoch if path == run.best_agent else epoch - 1


def _versions(run: RunFolder) -> list[int]:
    """The epochs whose weights a run keeps, in order."""
    paths = (path for path in run.agent_versions.glob("agent_epoch_*") if path.suffix in (".pt", SAFETENSORS))
    names = {path.stem.rpartition("_")[2] for path in paths}
    return sorted(int(name) for name in names if name.isdecimal())


def _stored(path: Path) -> Path | None:
    """The file of weights with this name, or with the suffix of safetensors; None if there is neither."""
    return next((each for each in (path, path.with_suffix(SAFETENSORS)) if each.is_file()), None)


def _listed(epochs: Sequence[int]) -> str:
    return ", ".join(map(str, epochs)) or "none yet"
