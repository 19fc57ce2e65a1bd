"""Scripted motions of the arm in the simulated kitchen (Gymnasium-Robotics, `FrankaKitchen-v1`)."""

from typing import Any

import numpy as np

TASKS = {"kettle": ("kettle",), "cabinet": ("slide cabinet",), "both": ("kettle", "slide cabinet"), "free": ()}
"""What each motion completes, by the environment's names of its tasks."""

# Places of the hand in metres: x to the right, y away from the room, z up. Between them it moves in straight lines.
_TO_KETTLE = ((-0.29, 0.11, 2.00), (-0.28, 0.15, 1.84), (-0.27, 0.20, 1.77))
_PUSH_KETTLE = ((-0.33, 0.40, 1.76), (-0.34, 0.55, 1.77))
_FROM_KETTLE = ((-0.28, 0.32, 1.90), (-0.29, 0.22, 2.00))
_TO_CABINET = ((-0.38, 0.23, 2.18), (-0.35, 0.30, 2.38), (-0.34, 0.51, 2.49), (-0.31, 0.59, 2.56))
_PUSH_CABINET = ((-0.20, 0.61, 2.50), (0.10, 0.62, 2.49), (0.23, 0.61, 2.56))
_FROM_CABINET = ((0.18, 0.50, 2.46), (0.12, 0.34, 2.39))
_FREE_LEAST, _FREE_MOST = np.array((-0.55, 0.03, 2.00)), np.array((-0.05, 0.20, 2.40))
_KETTLE = _TO_KETTLE + _PUSH_KETTLE + _FROM_KETTLE
_CABINET = _TO_CABINET + _PUSH_CABINET + _FROM_CABINET
_PLACES = {"kettle": _KETTLE, "cabinet": _CABINET, "both": _KETTLE + _CABINET}

REACHED = 0.035
"""Metres from a place at which the hand turns to the next one."""
PATIENCE = 25
"""Steps after which a place that cannot be reached is given up."""
LEAD = 0.06
"""Metres that the point which the hand follows may be ahead of it."""
FOLLOW, CORRECT = 5.0, 8.0
"""Metres per second for each metre that the hand is behind, and for each metre and second: the arm sags."""
DAMPING = 0.05
ARM_JOINTS = 7
LIMIT = 0.02
"""Radians from the end of its range at which a joint turns no further."""
CLOSE = -1.0
"""The action of both fingers."""
ACTION_SCALE = 2.0
"""Radians per second that an action of 1 stands for."""
STEP = 0.08
"""Seconds."""


class ScriptedMotion:
    """Moves the hand from place to place; no two motions are the same.

    `name` is a key of `TASKS`. Places, speed and a slight tremor are drawn from `rng`. In free motion the hand visits
    random places in front of the cupboards. The hand follows a point that moves in straight lines.
    """

    def __init__(self, name: str, rng: np.random.Generator) -> None:
        self._rng = rng
        self._places = _draw_places(name, rng)
        self._speed = rng.uniform(0.28, 0.40)
        self._next = 0
        self._steps_here = 0
        self._point: np.ndarray | None = None
        self._sag = np.zeros(3)

    @property
    def is_over(self) -> bool:
        return self._next == len(self._places)

    def act(self, env: Any) -> np.ndarray:
        """The next action, float64 (9) in [-1, 1], for the state that a kitchen is in."""
        model, data = env.unwrapped.model, env.unwrapped.data
        hand = data.site("end_effector").xpos
        self._turn_to_next(hand)
        tremor = self._rng.normal(0, 0.02, ARM_JOINTS)
        turn = np.zeros(ARM_JOINTS) if self.is_over else _turn_joints(model, data, self._follow(hand))
        return np.concatenate((np.clip(turn / ACTION_SCALE + tremor, -1, 1), (CLOSE, CLOSE)))

    def _turn_to_next(self, hand: np.ndarray) -> None:
        self._steps_here += 1
        while not self.is_over:
            distance = np.linalg.norm(self._places[self._next] - hand)
            if distance > REACHED and self._steps_here <= PATIENCE:
                return
            self._next, self._steps_here = self._next + 1, 0

    def _follow(self, hand: np.ndarray) -> np.ndarray:
        """Move the point, and return the velocity of the hand in metres per second."""
        point = hand if self._point is None else self._point
        way = self._places[self._next] - point
        distance = np.linalg.norm(way)
        direction = way / max(distance, 1e-9)
        if np.linalg.norm(point - hand) < LEAD:
            point = point + direction * min(distance, self._speed * STEP)
        self._point = point
        self._sag = np.clip(self._sag + CORRECT * STEP * (point - hand), -0.5, 0.5)
        return FOLLOW * (point - hand) + self._sag


def _turn_joints(model: Any, data: Any, velocity: np.ndarray) -> np.ndarray:
    """Joint velocities (7) in radians per second that move the hand, by damped least squares (Wampler 1986).

    Joints at the end of their range keep still, and the others do their part.
    """
    import mujoco

    jacobian = np.zeros((3, model.nv))
    mujoco.mj_jacSite(model, data, jacobian, None, data.site("end_effector").id)
    jacobian = jacobian[:, :ARM_JOINTS]
    least, most = model.jnt_range[:ARM_JOINTS].T
    angles = data.qpos[:ARM_JOINTS]
    is_free = np.ones(ARM_JOINTS, bool)
    for _ in range(ARM_JOINTS):
        part = jacobian * is_free
        turn = part.T @ np.linalg.solve(part @ part.T + DAMPING**2 * np.eye(3), velocity)
        stops = ((angles < least + LIMIT) & (turn < 0)) | ((angles > most - LIMIT) & (turn > 0))
        if not stops.any():
            break
        is_free &= ~stops
    return turn


def _draw_places(name: str, rng: np.random.Generator) -> np.ndarray:
    """The places of a motion (n, 3)."""
    if name == "free":
        return rng.uniform(_FREE_LEAST, _FREE_MOST, (6, 3))
    places = np.array(_PLACES[name])
    return places + rng.uniform(-0.012, 0.012, places.shape)
