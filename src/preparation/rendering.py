"""Pictures of recorded episodes, drawn by the environment that they were recorded in."""

from collections.abc import Iterator
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from envs.kitchen import Look
from envs.robotics import make_robot, opengl_needed
from errors import UserError
from preparation.minari_source import MinariEpisode

Render = Literal["states", "replay"]


class Renderer:
    """The environment of a data set, from the specification that is stored in it.

    Raises UserError if there is none, or the environment cannot be made here.
    """

    def __init__(self, name: str, spec: EnvSpec | None, look: Look) -> None:
        if spec is None:
            raise UserError(
                f"{name} holds no images, and does not say in which environment it was recorded: there is nothing to "
                "draw its frames with."
            )
        if wrappers := [each.name for each in spec.additional_wrappers]:
            raise UserError(
                f"The environment of {name} cannot be recovered: it has the wrappers {', '.join(wrappers)}."
            )
        self.name = name
        self._kitchen = spec.id.startswith("FrankaKitchen-")
        arguments = dict(spec.kwargs)
        if self._kitchen:
            arguments |= {"width": look.side, "height": look.side}
        self._env = make_robot(spec.id, arguments, spec.max_episode_steps)
        look.set_in(self._env)

    def draw(self, episode: MinariEpisode, render: Render | None, seed: int) -> Iterator[np.ndarray]:
        """Yield n + 1 pictures, uint8 (h, w, 3), of an episode of n steps.

        `states` sets the states that are stored, and is exact but for the noise in them. `replay` takes the recorded
        actions, from the episode's own seed or else from `seed`. None draws states where they are stored.
        Raises UserError if states are wanted and not stored.
        """
        positions = self._positions(episode)
        if render == "states" and positions is None:
            raise UserError(f"{self.name} does not store the states of its environment: use --render replay.")
        if positions is None or render == "replay":
            return self._replay(episode, seed if episode.seed is None else episode.seed)
        return self._draw_states(positions)

    def close(self) -> None:
        self._env.close()

    def _positions(self, episode: MinariEpisode) -> np.ndarray | None:
        """The positions of all joints (n + 1, nq), if they are stored and the environment is one of MuJoCo."""
        model = getattr(self._env.unwrapped, "model", None)
        if not hasattr(model, "nq"):
            return None
        stored = episode.infos.get("qpos")
        if self._kitchen and isinstance(episode.observations, dict):
            stored = _kitchen_positions(episode.observations)
        is_whole = isinstance(stored, np.ndarray) and stored.shape == (len(episode) + 1, model.nq)
        return stored if is_whole else None

    def _draw_states(self, positions: np.ndarray) -> Iterator[np.ndarray]:
        import mujoco

        self._env.reset(seed=0)
        model, data = self._env.unwrapped.model, self._env.unwrapped.data
        for position in positions:
            data.qpos[:] = position
            mujoco.mj_forward(model, data)
            yield self._picture()

    def _replay(self, episode: MinariEpisode, seed: int) -> Iterator[np.ndarray]:
        self._env.reset(seed=seed, options=episode.options or None)
        yield self._picture()
        is_discrete = isinstance(self._env.action_space, gymnasium.spaces.Discrete)
        for act in episode.actions:
            self._env.unwrapped.step(int(act) if is_discrete else act)
            yield self._picture()

    def _picture(self) -> np.ndarray:
        with opengl_needed():
            return np.asarray(self._env.render())


def _kitchen_positions(observations: dict[str, Any]) -> np.ndarray | None:
    """Joints of the arm (9) and the objects (21) in the observations of the kitchen."""
    seen = observations.get("observation")
    if not isinstance(seen, np.ndarray) or seen.ndim != 2 or seen.shape[1] != 59:
        return None
    return np.concatenate((seen[:, :9], seen[:, 18:39]), axis=1)
