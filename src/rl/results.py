"""What whole episodes brought."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Results:
    """The returns of finished episodes, and their lengths in steps, in the order in which they ended."""

    returns: tuple[float, ...]
    lengths: tuple[int, ...]

    @property
    def mean_return(self) -> float:
        return float(np.mean(self.returns))

    @property
    def mean_length(self) -> float:
        return float(np.mean(self.lengths))

    def metrics(self) -> dict[str, float]:
        """Their number and averages, as they are logged; empty without episodes. The deviation is the population's."""
        if not self.returns:
            return {}
        returns = np.array(self.returns)
        return {
            "num_episodes": len(returns),
            "return_mean": self.mean_return,
            "return_std": float(returns.std()),
            "return_min": float(returns.min()),
            "return_max": float(returns.max()),
            "length_mean": self.mean_length,
        }
