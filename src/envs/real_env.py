"""Real games as a vector environment, whose state is saved as a seed and the actions since."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from data import Start, Step

REPLAY_BAR_FROM = RESEED_AFTER = 3_000


@dataclass(frozen=True)
class Frames:
    """What emulators return after an action, before any reset.

    `obs` uint8 (b, h, w, c), `rew` float32 (b), `end`, `trunc` and `over` bool (b). `over` marks games that are over;
    if losing a life ends an episode, `end` can be set without `over`. `next_obs`, like `obs`, is the first frame of the
    next game, for emulators that start it themselves; None for emulators that wait for a reset.
    """

    obs: np.ndarray
    rew: np.ndarray
    end: np.ndarray
    trunc: np.ndarray
    over: np.ndarray
    next_obs: np.ndarray | None = None


class Emulators(Protocol):
    """Games that are stepped together and reset individually with explicit seeds."""

    num_envs: int
    num_actions: int
    action_names: tuple[str, ...]

    def reset(self, mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """Reset the masked games with their seeds; returns the frames of all games, uint8 (b, h, w, c)."""

    def send(self, act: np.ndarray) -> None:
        """Begin a step; `receive` waits for its end."""

    def receive(self) -> Frames: ...

    def close(self) -> None: ...


class RealEnv:
    """Vector environment over emulators.

    The state of an environment is the number of times it was seeded, and its actions since; restoring the state replays
    these actions. To keep replays short, environments are seeded again with every new game. Seeding is slow in Atari
    (it loads the ROM, 80 ms), so emulators that start the next game themselves are seeded only with the first game
    after `RESEED_AFTER` steps.
    """

    def __init__(self, emulators: Emulators, seed: int, device: torch.device, first: int = 0) -> None:
        """`first` is the number of the first game: games with other numbers get other seeds."""
        self.emulators = emulators
        self.seed = seed
        self.device = device
        self._first = first
        self.num_envs = emulators.num_envs
        self.num_actions = emulators.num_actions
        self.action_names = emulators.action_names
        self._num_seeds = np.zeros(self.num_envs, np.int64)
        self._actions: list[list[int]] = [[] for _ in range(self.num_envs)]

    def prepare(self, num_steps: int) -> None:
        """Does nothing: real games need no preparation."""

    def reset(self) -> Start:
        """Start a new game in every environment."""
        return Start(self._send_frames(self._seed(np.ones(self.num_envs, np.bool_))))

    def step(self, act: Tensor) -> Step:
        """Take one action (b) in each game; games that are over restart immediately."""
        self.send(act)
        return self.receive()

    def send(self, act: Tensor) -> None:
        """Begin a step, with one action (b) for each game. Emulators with threads work on it from now on.

        Before anything else is done with the environment, `receive` must be called.
        """
        actions = act.cpu().numpy()
        for history, action in zip(self._actions, actions.tolist(), strict=True):
            history.append(action)
        self.emulators.send(actions)

    def receive(self) -> Step:
        """End the step that `send` began."""
        frames = self.emulators.receive()
        final_obs = self._send_frames(frames.obs)
        obs = self._send_frames(self._begin_games(frames)) if frames.over.any() else final_obs
        rew = torch.from_numpy(frames.rew.astype(np.float32)).to(self.device)
        end, trunc = [torch.from_numpy(flags).to(self.device) for flags in (frames.end, frames.trunc)]
        return Step(obs, rew, end, trunc, final_obs)

    def close(self) -> None:
        self.emulators.close()

    def state_dict(self) -> dict[str, Any]:
        actions = [torch.tensor(history, dtype=torch.int64) for history in self._actions]
        return {"num_seeds": self._num_seeds.tolist(), "actions": actions}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a saved state. All games are replayed together; those with fewer actions start later."""
        self._num_seeds = np.array(state["num_seeds"], np.int64)
        self._actions = [history.tolist() for history in state["actions"]]
        if not self._num_seeds.any():
            return
        from tqdm import tqdm

        lengths = np.array([len(history) for history in self._actions])
        longest = lengths.max()
        self.emulators.reset(np.ones(self.num_envs, np.bool_), self._seeds())
        ages = longest - lengths
        for step in tqdm(range(longest + 1), "Replaying the game", disable=longest < REPLAY_BAR_FROM, leave=False):
            begins = (ages == step) & (step > 0)
            if begins.any():
                self.emulators.reset(begins, self._seeds())
            if step == longest:
                return
            places = zip(self._actions, (step - ages).tolist(), strict=True)
            self.emulators.send(np.array([history[place] if place >= 0 else 0 for history, place in places]))
            frames = self.emulators.receive()
            # A game that has not started yet is stepped too, and may end: it only has to remain usable.
            if frames.next_obs is None and frames.over.any():
                self.emulators.reset(frames.over, self._seeds())

    def _begin_games(self, frames: Frames) -> np.ndarray:
        """The frames to act on next, if some games are over."""
        if frames.next_obs is None:
            return self._seed(frames.over)
        is_due = frames.over & (np.array([len(history) for history in self._actions]) >= RESEED_AFTER)
        if not is_due.any():
            return frames.next_obs
        return np.where(is_due[:, None, None, None], self._seed(is_due), frames.next_obs)

    def _seed(self, mask: np.ndarray) -> np.ndarray:
        self._num_seeds += mask
        for index in np.flatnonzero(mask):
            self._actions[index] = []
        return self.emulators.reset(mask, self._seeds())

    def _seeds(self) -> np.ndarray:
        keys = [(self.seed, index, int(game)) for index, game in enumerate(self._num_seeds, self._first)]
        return np.array([np.random.SeedSequence(key).generate_state(1)[0] >> 1 for key in keys], np.int64)

    def _send_frames(self, frames: np.ndarray) -> Tensor:
        # NumPy copies without waking PyTorch's threads, which would take cores from the emulators for a while.
        return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))).to(self.device)
