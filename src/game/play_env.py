"""Acting in imagined and real environments, by a person, a policy or a recording, one step at a time."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from algorithms.base import World
from data import Start, Step
from game.choices import check_word, play_choices, play_help, set_denoising, set_horizon
from game.controllers import Controllers, as_batch
from game.header import action_bars, header_fields
from game.idle_keys import IdleKeys
from game.inputs import Command, Pause, Press, SetController, SetDenoising, SetEnv, SetHorizon
from game.keys import ActionKeys
from game.layout_keys import LayoutKeys
from game.mind import Mind, Thought, think
from game.moment import Moment, Place
from game.random_numbers import RandomNumbers
from game.recorder import Recorder
from game.scores import Scores
from game.starts import Recording, StartSource
from game.view import View
from game.wishes import NO_WISHES, Wishes
from rl.policy import Policy, Thinker
from run.device import autocast

CPU = torch.device("cpu")


class PlayEnv:
    """A player in one of several worlds. The agent's policy, if there is one, is asked at every step, whoever acts."""

    repeating_keys = frozenset({"up", "down", "page up", "page down", "e"})
    is_still = False
    is_over = False

    def __init__(
        self,
        worlds: list[Place],
        policy: Policy | None,
        keys: ActionKeys | LayoutKeys | IdleKeys,
        controller: str = "policy",
        starts: StartSource | None = None,
        recorder: Recorder | None = None,
        wishes: Wishes = NO_WISHES,
        precision: torch.dtype = torch.float32,
        device: torch.device = CPU,
        seed: int = 0,
    ) -> None:
        """`starts`: where imagination starts, and the recordings that the controller `replay` takes its actions from.

        Networks run in `precision` on `device`. `seed` is that of starts, imagination and all controllers.
        """
        self.worlds = worlds
        self.policy = policy
        self.mind = None if policy is None else Mind(policy, device, precision)
        self.keys = keys
        self.recorder = recorder
        self.random = RandomNumbers(seed, device)
        self.is_paused = False
        self.game_keys = keys.game_keys
        self._controllers = Controllers(controller, keys, policy is not None, starts)
        self.networks = partial(autocast, device, precision)
        self._wishes = wishes
        self._wants_step = False
        self._index = 0
        self._scores = Scores()
        self._upcoming: tuple[Start, Tensor | None] | None = None
        self.reset()

    @property
    def world(self) -> Place:
        return self.worlds[self._index]

    @property
    def controller(self) -> str:
        """Who acts."""
        return self._controllers.name

    @property
    def recording(self) -> Recording | None:
        """What was recorded from this episode's start on, where that is known."""
        return self._controllers.recording

    @property
    def _imagined(self) -> list[World]:
        return [place.imagined for place in self.worlds if place.imagined is not None]

    @property
    def wants_pointer(self) -> bool:
        return self.keys.has_mouse and self.controller == "human" and not self.is_paused

    @property
    def help(self) -> tuple[tuple[str, str], ...]:
        return play_help(self.keys)

    @torch.no_grad()
    def reset(self) -> None:
        """Start an episode in the current world; what was recorded so far is stored."""
        self._store_recording()
        original = None if self.world.original is None else self.world.original.reset().obs
        with self.random, self.networks():
            start = self.world.env.reset()
        self._begin(start, original)

    @torch.no_grad()
    def step(self, human_act: int | Tensor = 0) -> None:
        """One step of the current controller; after the end of an episode, the start of the next one."""
        acts = self.begin_step(human_act)
        if acts is None:
            return
        self.prepare_step()
        with self.random, self.networks():
            answer = self.world.env.step(acts)
        if self.finish_step(answer, acts):
            self._think()

    def begin_step(self, human_act: int | Tensor) -> Tensor | None:
        """The action (1) to step the world with; None if there is nothing to step, as the next episode begins."""
        if self.now.is_last:
            self._begin(*self._upcoming)
            return None
        with self.random:
            act = self._controllers.choose(self.now.step, human_act)
        if act is None:
            self.reset()
            return None
        acts = as_batch(act, self.now.obs.device)
        if self.mind is not None:
            self.mind.took(acts)
        return acts

    def prepare_step(self) -> None:
        """Draw the starts that the world may need in its next step."""
        with self.random, self.networks():
            self.world.env.prepare(1)

    def finish_step(self, answer: Step, acts: Tensor) -> bool:
        """See what the action led to; whether the policy has to think about it."""
        now, original = self.now, None if self.world.original is None else self.world.original.step(acts)
        self.now = now.after(answer, acts, None if original is None else original.final_obs)
        if self.recorder is not None:
            extras = self._wishes.extras(now, answer)
            name = f"{self.world.name}_{self._controllers.sign}"
            flags = self.now.rew, self.now.end, self.now.trunc
            self.recorder.add(name, now.obs[0].cpu(), self.now.act, flags, self.now.obs[0].cpu(), **extras)
        if not self.now.is_last:
            return self.mind is not None
        # The world has started the next episode already, although this one's last frame is still shown.
        next_original = None if original is None else original.obs
        self._upcoming = Start(answer.obs, answer.history, answer.full_obs, answer.origin), next_original
        self._scores.end(self.now, self.world)
        return False

    def take_thought(self, thought: Thought) -> None:
        self._controllers.policy_act = thought.act
        self.now = replace(self.now, probs=thought.probs, value=thought.value)

    def press(self, key: str) -> None:
        if key in self.game_keys:
            return
        match key:
            case "return":
                self.reset()
            case "m":
                self._controllers.switch()
            case "up" | "down" | "page up" | "page down":
                for world in self._imagined:
                    world.horizon = max(1, world.horizon + (1 if key.endswith("up") else -1))
            case "left" | "right":
                self._enter((self._index + (1 if key == "right" else -1)) % len(self.worlds))
            case ".":
                self.is_paused = not self.is_paused
            case "e":
                self._wants_step = self.is_paused
            case "s":
                self._store_recording()

    def obey(self, command: Command) -> None:
        """Do what a person wants; raises UserError for what is not among the choices."""
        match command:
            case Press(key):
                self.press(key)
            case Pause():
                self.is_paused = True
            case SetEnv(name):
                self._enter(check_word("env", name, [place.name for place in self.worlds]))
            case SetController(name):
                with self.random:
                    self._controllers.set(name)
            case SetHorizon(steps):
                set_horizon(self._imagined, steps)
            case SetDenoising(steps):
                set_denoising(self._imagined, steps)

    def tick(self, held: list[str], motion: tuple[float, float] = (0, 0)) -> None:
        if self._may_step():
            self.step(self.keys.action(held, motion))

    def begin_tick(self, held: list[str], motion: tuple[float, float]) -> Tensor | None:
        """As `begin_step`, if a step is due in this tick."""
        return self.begin_step(self.keys.action(held, motion)) if self._may_step() else None

    def close(self) -> None:
        if self.recorder is not None:
            self.recorder.close()

    def view(self) -> View:
        now = self.now
        who = f"{self.controller} (paused)" if self.is_paused else self.controller
        room = max(len(world.label) for world in self.worlds)
        return View(
            now.obs[0] if now.full_obs is None else now.full_obs[0],
            header_fields(now, self.world, room, who, self.keys, isinstance(self.policy, Thinker)),
            action_bars(now, self.keys),
            preview=None if now.full_obs is None else now.obs[0],
            score=self._scores.at(now) if self.world.shows_rewards else None,
            ended=self._scores.ended,
            status=(*(() if self.recorder is None else self.recorder.status), *(("paused",) if self.is_paused else ())),
            choices=play_choices(self.world, self.worlds, self.controller, self._controllers.names),
            wants_pointer=self.wants_pointer,
        )

    def _may_step(self) -> bool:
        is_due, self._wants_step = self._wants_step or not self.is_paused, False
        return is_due

    def _enter(self, index: int) -> None:
        self._index = index
        self.reset()

    def _begin(self, start: Start, original_obs: Tensor | None) -> None:
        with self.random:
            self._controllers.begin(start.origin)
            if self.mind is not None:
                self.mind.begin(start.history)
        self.now = Moment(start.obs, original_obs, start.full_obs)
        self._think()

    def _think(self) -> None:
        """Let the policy choose an action for this moment, whoever acts."""
        if self.mind is not None:
            with self.random:
                self.take_thought(think([self.mind], self.now.obs)[0])

    def _store_recording(self) -> None:
        if self.recorder is not None:
            self.recorder.store()
