"""The simulated kitchen while it runs, beside what a world predicts from it."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from envs.kitchen import LONGEST, NUM_JOINTS, Look, as_action, draw, make_kitchen
from envs.kitchen_motions import TASKS, ScriptedMotion
from game.choices import check_word
from game.inputs import Command, Pause, Press, SetController, SetDenoising
from game.predictor import Predictor
from game.side_by_side import TITLES, side_by_side
from game.view import Choice, Field, View

CONTROLLERS = ("scripted", "random", "keyboard")
JOINT_KEYS = tuple("123456789")
BACK = "left shift"
SPEED = 0.5
"""Of a joint whose key is held: 1 radian per second."""


@dataclass
class Arm:
    """Joint velocities (9) in [-1, 1] by a script, at random, or by held keys."""

    rng: np.random.Generator
    controller: str = CONTROLLERS[0]
    motion: ScriptedMotion | None = None
    velocities: np.ndarray | None = None

    def begin(self) -> None:
        """For a new episode."""
        self.motion = ScriptedMotion(str(self.rng.choice(list(TASKS))), self.rng)

    def turn(self) -> None:
        """Draw the velocities that random motion has from now on."""
        self.velocities = self.rng.uniform(-1, 1, NUM_JOINTS)

    def act(self, env: object, held: Sequence[str]) -> np.ndarray:
        match self.controller:
            case "scripted":
                return self.motion.act(env)
            case "random":
                return self.velocities
        return np.array([key in held for key in JOINT_KEYS]) * (-SPEED if BACK in held else SPEED)

    @property
    def is_over(self) -> bool:
        return self.controller == "scripted" and self.motion.is_over


class LiveEnv:
    """Predicts from the current frame, runs the kitchen for the `stride` steps of a prediction, and compares.

    Until then the real frame is black. Actions of these steps are not known when it predicts: a world that sees
    actions is told that the last one is held. The kitchen is drawn in the thread that ticks, as OpenGL demands.
    """

    repeating_keys = frozenset({"page up", "page down"})
    game_keys = frozenset((*JOINT_KEYS, BACK))
    wants_pointer = False
    is_still = False
    is_over = False
    help = (
        ("m", "scripted, random, keyboard"),
        ("1-9", "keyboard: turn a joint, back with Shift"),
        *Predictor.help,
        ("Enter", "start again"),
        ("space", "stop, go on"),
    )

    def __init__(
        self, predictor: Predictor, stride: int, frame: tuple[int, int, int], look: Look, rng: np.random.Generator
    ) -> None:
        """`frame`: the shape (c, h, w) that the world knows. Raises UserError without MuJoCo."""
        self.predictor = predictor
        self.stride = stride
        self.is_playing = True
        self.arm = Arm(rng)
        self._shape = frame
        self._rng = rng
        self._env = make_kitchen(width=look.side, height=look.side)
        look.set_in(self._env)
        self._seen: deque[tuple[Tensor, Tensor]] = deque(maxlen=predictor.num_context_steps)
        self._predicted: Tensor | None = None
        self.step, self._since = 0, 0
        self._reset()

    def press(self, key: str) -> None:
        if self.predictor.press(key):
            return
        match key:
            case "return":
                self._reset()
            case "space":
                self.is_playing = not self.is_playing
            case "m":
                names = CONTROLLERS
                self.arm.controller = names[(names.index(self.arm.controller) + 1) % len(names)]

    def obey(self, command: Command) -> None:
        """Do what a person wants; raises UserError for what is not among the choices."""
        match command:
            case Press(key):
                self.press(key)
            case Pause():
                self.is_playing = False
            case SetDenoising(steps):
                self.predictor.set_steps(steps)
            case SetController(name):
                self.arm.controller = CONTROLLERS[check_word("controller", name, CONTROLLERS)]

    def tick(self, held: list[str], motion: tuple[float, float] = (0, 0)) -> None:
        """One step of the kitchen; after the last step of a prediction, the next prediction instead."""
        if self._predicted is None or not self.is_playing:
            return
        if self._since == self.stride:
            if self.arm.is_over or self.step + self.stride > LONGEST:
                self._reset()
            else:
                self._turn_to_next(self._act)
            return
        joints = self.arm.act(self._env, held)
        self._env.step(joints)
        self._act = as_action(joints)
        self.step, self._since = self.step + 1, self._since + 1
        self._now = draw(self._env, self._shape)

    @torch.no_grad()
    def view(self) -> View:
        if self._now is None:
            self._now = draw(self._env, self._shape)
        if self._predicted is None:
            self._seen.append((self._now, self._act.tile(self.stride)))
            # Before the first frame, the world sees this frame again.
            seen = [self._seen[0]] * (self.predictor.num_context_steps - len(self._seen)) + list(self._seen)
            obs, act = zip(*seen, strict=True)
            self._predicted = self.predictor.predict(torch.stack(obs), torch.stack(act))
        real = self._now if self._since == self.stride else None
        ahead = self.step - self._since + self.stride
        controller = self.arm.controller
        return View(
            side_by_side(self._now, self._predicted, real, (self.step, ahead, LONGEST)),
            (
                Field("", " · ".join(TITLES), 42),
                Field("", controller, 9),
                Field("step", self.step, 17, unit=f" of 0-{LONGEST}"),
                Field("predicted", f"step {ahead}", 18),
                *self.predictor.fields,
            ),
            choices=(Choice("controller", controller, CONTROLLERS), *self.predictor.choices),
        )

    def close(self) -> None:
        self._env.close()

    def _reset(self) -> None:
        self._env.reset(seed=int(self._rng.integers(1 << 31)))
        self.arm.begin()
        self._seen.clear()
        self.step, self._now = 0, None
        self._turn_to_next(torch.zeros(NUM_JOINTS))

    def _turn_to_next(self, act: Tensor) -> None:
        """Predict from here on."""
        self.arm.turn()
        self._act, self._predicted, self._since = act, None, 0
