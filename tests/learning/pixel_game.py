"""A small pixel game whose best play is known: catch a light that circles the board, stay with it, mind the pit."""

from functools import cache
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

SIDE, CELL, FRAME = 4, 4, 16
PIT = (1, 2)
MAX_STEPS = 30
MOVES = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
CELLS = [(row, column) for row in range(SIDE) for column in range(SIDE) if (row, column) != PIT]
EDGE = SIDE - 1
RING = [
    *((0, column) for column in range(EDGE)),
    *((row, EDGE) for row in range(EDGE)),
    *((EDGE, EDGE - column) for column in range(EDGE)),
    *((EDGE - row, 0) for row in range(EDGE)),
]

Cell = tuple[int, int]


class Chase(gymnasium.Env):
    """A step on the light is a reward. All that happens follows from the frame and the action; the start is random."""

    metadata = {"render_modes": []}  # noqa: RUF012  (Gymnasium's own way)
    observation_space = Box(0, 255, (FRAME, FRAME, 3), np.uint8)
    action_space = Discrete(len(MOVES))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.agent = CELLS[self.np_random.integers(len(CELLS))]
        self.light = int(self.np_random.integers(len(RING)))
        return self._draw(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.agent, self.light = move(self.agent, int(action)), (self.light + 1) % len(RING)
        return self._draw(), float(self.agent == RING[self.light]), self.agent == PIT, False, {}

    def _draw(self) -> np.ndarray:
        frame = np.full((FRAME, FRAME, 3), 60, np.uint8)
        for (row, column), colour in ((PIT, (0, 0, 0)), (RING[self.light], (230, 60, 60))):
            frame[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = colour
        row, column = self.agent
        # The light stays visible around the agent.
        frame[row * CELL + 1 : (row + 1) * CELL - 1, column * CELL : (column + 1) * CELL] = (70, 160, 250)
        return frame


def move(cell: Cell, action: int) -> Cell:
    """The cell after an action; the edge of the board is a wall."""
    row, column = (min(max(place + by, 0), EDGE) for place, by in zip(cell, MOVES[action], strict=True))
    return row, column


@cache
def best_return(agent: Cell, light: int, steps: int = MAX_STEPS) -> int:
    """The most rewards that any actions can reach in that many steps, over all of them."""
    if steps == 0 or agent == PIT:
        return 0
    light = (light + 1) % len(RING)
    after = {move(agent, action) for action in range(len(MOVES))}
    return max((cell == RING[light]) + best_return(cell, light, steps - 1) for cell in after)


def mean_best_return() -> float:
    """The best return, averaged over all starts."""
    return float(np.mean([best_return(agent, light) for agent in CELLS for light in range(len(RING))]))


def mean_random_return(num_episodes: int, seed: int) -> float:
    """The mean return of uniformly random actions."""
    env, rng, total = gymnasium.make("Chase-v0"), np.random.default_rng(seed), 0.0
    for episode in range(num_episodes):
        env.reset(seed=seed + episode)
        over = False
        while not over:
            _, rew, end, trunc, _ = env.step(int(rng.integers(len(MOVES))))
            total, over = total + rew, end or trunc
    return total / num_episodes


gymnasium.register("Chase-v0", entry_point=Chase, max_episode_steps=MAX_STEPS)
