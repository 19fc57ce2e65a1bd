"""The files of weights in a run folder."""

from collections.abc import Sequence
from pathlib import Path

from agent import SAFETENSORS
from errors import UserError
from files import load_tensors
from run.folder import RunFolder
from trained.published_kitchen import is_published_kitchen, kitchen_weights


def choose_weights(run: RunFolder, epoch: int | None, best: bool) -> Path:
    """The file of the weights of an epoch, of the best ones, or of the newest; raises UserError if it is missing."""
    if is_published_kitchen(run.path):
        return _choose_kitchen(run.path, epoch, best)
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
    if is_published_kitchen(run.path):
        return next(iter(kitchen_weights(run.path)), None)
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


def _choose_kitchen(folder: Path, epoch: int | None, best: bool) -> Path:
    wanted = "best_model.pth" if best else "" if epoch is None else f"checkpoint_epoch_{epoch:03d}.pth"
    known = kitchen_weights(folder)
    chosen = [path for path in known if not wanted or path.name == wanted]
    if not chosen:
        names = ", ".join(path.name for path in known) or "none"
        raise UserError(f"{folder}/checkpoints has no {wanted or 'weights'}. Kept: {names}.")
    return chosen[0]


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
