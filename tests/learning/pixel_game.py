"""A small pixel game whose best play is known: move to a target, which then jumps, and do not fall into the pit."""

from collections import deque
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
TARGET_JUMP = 7

Cell = tuple[int, int]


class Chase(gymnasium.Env):
    """Everything that happens follows from the frame and the action; only the start is random."""

    metadata = {"render_modes": []}  # noqa: RUF012  (Gymnasium's own way)
    observation_space = Box(0, 255, (FRAME, FRAME, 3), np.uint8)
    action_space = Discrete(len(MOVES))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.agent, self.target = [CELLS[index] for index in self.np_random.choice(len(CELLS), 2, replace=False)]
        return self._draw(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.agent = move(self.agent, int(action))
        reached = self.agent == self.target
        if reached:
            self.target = next_target(self.target)
        return self._draw(), float(reached), self.agent == PIT, False, {}

    def _draw(self) -> np.ndarray:
        frame = np.full((FRAME, FRAME, 3), 60, np.uint8)
        for (row, column), colour in ((PIT, (0, 0, 0)), (self.target, (230, 60, 60)), (self.agent, (70, 160, 250))):
            frame[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = colour
        return frame


def move(cell: Cell, action: int) -> Cell:
    """The cell after an action; the edge of the board is a wall."""
    row, column = (min(max(place + by, 0), SIDE - 1) for place, by in zip(cell, MOVES[action], strict=True))
    return row, column


def next_target(target: Cell) -> Cell:
    return CELLS[(CELLS.index(target) + TARGET_JUMP) % len(CELLS)]


@cache
def distance(start: Cell, goal: Cell) -> int:
    """Steps of a shortest way around the pit."""
    distances, queue = {start: 0}, deque([start])
    while goal not in distances:
        cell = queue.popleft()
        for action in range(len(MOVES)):
            after = move(cell, action)
            if after != PIT and after not in distances:
                distances[after] = distances[cell] + 1
                queue.append(after)
    return distances[goal]


def best_return(agent: Cell, target: Cell) -> int:
    """Targets that can be reached from a start: each by a shortest way, as all ways to it end in the same place."""
    reached, steps = 0, 0
    while (steps := steps + distance(agent, target)) <= MAX_STEPS:
        agent, target, reached = target, next_target(target), reached + 1
    return reached


def mean_best_return() -> float:
    """The best return, averaged over all starts."""
    return float(np.mean([best_return(agent, target) for agent in CELLS for target in CELLS if agent != target]))


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
