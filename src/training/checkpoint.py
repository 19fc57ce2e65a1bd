"""The state of a run on disk: written in one atomic step, and gone back to after any interruption."""

from dataclasses import asdict, dataclass
from typing import Any

from errors import UserError
from files import load_tensors, save_tensors
from run.folder import RunFolder
from run.log import Log
from run.ranks import Ranks
from training.parts import Parts


@dataclass
class Progress:
    """Where the run stands: the phase of the epoch it is in, whether that has begun, and what later phases need."""

    epoch: int = 1
    phase: str = "collect"
    phase_has_begun: bool = False
    first_collection: int | None = None
    best_return: float | None = None
    is_finished: bool = False


def save_checkpoint(folder: RunFolder, progress: Progress, parts: Parts, ranks: Ranks, log: Log | None) -> None:
    """Write everything needed to go on. All ranks take part; raises LossNotFinite rather than save such weights."""
    states_of_ranks = ranks.gather(parts.state_of_rank())
    if ranks.is_first:
        for component in parts.components.values():
            component.check_finite()
        if parts.collect_train is not None:
            parts.train.dataset.save_info()
            parts.test.save_info()
        log.sync()
        save_tensors(
            {
                "progress": asdict(progress),
                "agent": parts.agent.state_dict(),
                "components": {name: component.state_dict() for name, component in parts.components.items()},
                "collectors": {name: collector.state_dict() for name, collector in _collectors(parts).items()},
                "datasets": {"train": parts.train.dataset.state_dict(), "test": parts.test.state_dict()},
                "ranks": states_of_ranks,
                "log_position": log.position,
            },
            folder.state,
        )
    # No rank may leave, or change the data, before the file is whole.
    ranks.broadcast("saved")


def load_checkpoint(folder: RunFolder, parts: Parts, ranks: Ranks, owns_data: bool) -> tuple[Progress, int]:
    """Go back to the last checkpoint; what was stored after it is removed, if the run owns its data.

    Returns where the run stands, and the position of its log. With another number of ranks than before, each rank's
    imagination and random numbers begin anew. Raises UserError for a state of other settings.
    """
    state = load_tensors(folder.state)
    try:
        parts.agent.load_state_dict(state["agent"])
        for name, component in parts.components.items():
            component.load_state_dict(state["components"][name])
        if owns_data:
            _load_data(state, parts, ranks)
        if len(state["ranks"]) == ranks.world_size:
            parts.load_state_of_rank(state["ranks"][ranks.rank])
        return Progress(**state["progress"]), int(state["log_position"])
    except (KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{folder.state} does not fit the settings of this run ({reason}).") from error


def _load_data(state: dict[str, Any], parts: Parts, ranks: Ranks) -> None:
    if ranks.is_first:
        parts.train.dataset.rewind(state["datasets"]["train"])
        parts.test.rewind(state["datasets"]["test"])
        for name, collector in _collectors(parts).items():
            collector.load_state_dict(state["collectors"][name])
    else:
        parts.train.dataset.load_state_dict(state["datasets"]["train"])
    parts.train.load()


def _collectors(parts: Parts) -> dict[str, Any]:
    both = {"train": parts.collect_train, "test": parts.collect_test}
    return {name: collector for name, collector in both.items() if collector is not None}
