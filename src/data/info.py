"""The content of a data set's `info.pt`, with the published names and types."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data.episode import Episode
from errors import UserError


@dataclass
class Info:
    """The lengths of the episodes, and counts of the signs of rewards and of ends.

    A static data set cannot grow.
    """

    is_static: bool = False
    lengths: list[int] = field(default_factory=list)
    counter_rew: Counter[float] = field(default_factory=Counter)
    counter_end: Counter[int] = field(default_factory=Counter)

    @classmethod
    def of(cls, state: dict[str, Any], path: Path) -> "Info":
        """From the content of a file; raises UserError if it is not an `info.pt`, or contradicts itself."""
        try:
            info = cls(
                bool(state["is_static"]),
                _whole_numbers(state["lengths"]),
                _counter(state["counter_rew"]),
                _counter(state["counter_end"]),
            )
            counted = {"num_steps": info.num_steps, "num_episodes": len(info.lengths)}
            named = {name: int(state.get(name, count)) for name, count in counted.items()}
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError):
            raise UserError(f"{path} is not the info.pt of a data set.") from None
        for name, count in counted.items():
            if named[name] != count:
                raise UserError(f"{path} has {name}={named[name]}, but its lengths make {count}.")
        shortest = min(info.lengths, default=1)
        if shortest < 1:
            raise UserError(f"{path} counts {shortest} steps in episode {info.lengths.index(shortest)}.")
        return info

    @property
    def num_steps(self) -> int:
        return sum(self.lengths)

    def count(self, episode: Episode, episode_id: int | None) -> int:
        """Count a new episode, or further steps of the episode `episode_id`; returns the episode's id."""
        if episode_id is None:
            episode_id = len(self.lengths)
            self.lengths.append(0)
        self.lengths[episode_id] += len(episode)
        self.counter_rew.update(episode.rew.sign().tolist())
        self.counter_end.update(episode.end.tolist())
        return episode_id

    def state_dict(self) -> dict[str, Any]:
        lengths = np.array(self.lengths, dtype=np.int64)
        return {
            "is_static": self.is_static,
            "num_steps": self.num_steps,
            "lengths": lengths,
            "num_episodes": len(self.lengths),
            "counter_rew": Counter(self.counter_rew),
            "counter_end": Counter(self.counter_end),
            "start_idx": np.concatenate((np.zeros(min(1, len(lengths)), np.int64), lengths.cumsum()[:-1])),
        }


def _whole_numbers(values: Any) -> list[int]:
    """Numbers in a list, an array or a tensor; raises ValueError if one of them is not whole."""
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise ValueError("not whole numbers")
    return [int(number) for number in array]


def _counter(values: Any) -> Counter:
    """A count of values; raises ValueError if it is anything else."""
    if not isinstance(values, dict) or not all(isinstance(count, int) for count in values.values()):
        raise ValueError("not a count")
    return Counter(values)
