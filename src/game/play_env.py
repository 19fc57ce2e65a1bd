"""Acting in imagined and real environments, by a person, a policy or a recording, one step at a time."""

import contextlib
from dataclasses import replace

import torch
from torch import Tensor

from algorithms.base import DenoisingWorld
from data import Start, Step
from game.choices import CONTROLLERS, LONGEST_HORIZON, check_number, check_word, most_denoising, play_choices
from game.header import header_fields
from game.idle_keys import IdleKeys
from game.inputs import Command, Pause, Press, SetController, SetDenoising, SetEnv, SetHorizon
from game.keys import ActionKeys
from game.layout_keys import LayoutKeys
from game.mind import Mind, Thought, think
from game.moment import Moment, Place
from game.recorder import Recorder
from game.scores import Scores
from game.starts import Recording, StartSource
from game.view import Bar, View
from game.wishes import Wishes
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
        store_denoising_trajectory: bool = False,
        precision: torch.dtype = torch.float32,
        device: torch.device = CPU,
        store_original_obs: bool = False,
    ) -> None:
        """`starts`: where imagination starts, and the recordings that the controller `replay` takes its actions from.

        Networks run in `precision` on `device`. With `store_original_obs`, recordings also hold frames in full size.
        """
        self.worlds = worlds
        self.policy = policy
        self.mind = None if policy is None else Mind(policy, device, precision)
        self.keys = keys
        self.controller = controller
        self.starts = starts
        self.recorder = recorder
        self.is_paused = False
        self.recording: Recording | None = None
        """What was recorded from this episode's start on, where that is known."""
        self.game_keys = keys.game_keys
        self._precision = precision
        self._device = device
        self._wishes = Wishes(store_denoising_trajectory, store_original_obs)
        self._wants_step = False
        self._index = 0
        self._scores = Scores()
        self._upcoming: tuple[Start, Tensor | None] | None = None
        # `m` switches between a person and this controller.
        self._deputy = controller if controller != "human" else "policy" if policy is not None else "replay"
        self.reset()

    @property
    def world(self) -> Place:
        return self.worlds[self._index]

    @property
    def _controllers(self) -> list[str]:
        missing = {"policy": self.policy is None, "replay": self.starts is None}
        return [name for name in CONTROLLERS if not missing.get(name, False)]

    @property
    def wants_pointer(self) -> bool:
        return self.keys.has_mouse and self.controller == "human" and not self.is_paused

    @property
    def help(self) -> tuple[tuple[str, str], ...]:
        """The game's own keys, then the commands."""
        more = (("← →", "environment"), ("↑ ↓", "horizon")) if not self.game_keys & {"up", "left"} else ()
        paging = () if more else (("PgUp PgDn", "horizon"),)
        commands = (("m", "hand over, take over"), *more, *paging, ("Enter", "start again"), (".", "pause"))
        return (*self.keys.help(), *commands, ("e", "one step, when paused"))

    @torch.no_grad()
    def reset(self) -> None:
        """Start an episode in the current world; what was recorded so far is stored."""
        self._store_recording()
        original = None if self.world.original is None else self.world.original.reset().obs
        with self.networks():
            start = self.world.env.reset()
        self._begin(start, original)

    @torch.no_grad()
    def step(self, human_act: int | Tensor = 0) -> None:
        """One step of the current controller; after the end of an episode, the start of the next one."""
        acts = self.begin_step(human_act)
        if acts is None:
            return
        with self.networks():
            self.world.env.prepare(1)
            answer = self.world.env.step(acts)
        if self.finish_step(answer, acts):
            self._think()

    def begin_step(self, human_act: int | Tensor) -> Tensor | None:
        """The action (1) to step the world with; None if there is nothing to step, as the next episode begins."""
        if self.now.is_last:
            self._begin(*self._upcoming)
            return None
        act = self._choose(human_act)
        if act is None:
            self.reset()
            return None
        acts = torch.as_tensor(act)[None].to(self.now.obs.device)
        if self.mind is not None:
            self.mind.took(acts)
        return acts

    def finish_step(self, answer: Step, acts: Tensor) -> bool:
        """See what the action led to; whether the policy has to think about it."""
        now, original = self.now, None if self.world.original is None else self.world.original.step(acts)
        rew, end, trunc = torch.stack((answer.rew[0], answer.end[0].float(), answer.trunc[0].float())).tolist()
        self.now = replace(
            now,
            obs=answer.final_obs,
            original_obs=None if original is None else original.final_obs,
            full_obs=answer.final_full_obs,
            step=now.step + 1,
            total=now.total + rew,
            act=int(acts[0]) if acts.ndim == 1 else acts[0],
            rew=rew,
            end=bool(end),
            trunc=bool(trunc),
            going_on=None if answer.going_on is None else float(answer.going_on[0]),
            probs_before=now.probs,
        )
        if self.recorder is not None:
            extras = self._wishes.extras(now, answer)
            name = f"{self.world.name}_{CONTROLLERS[self.controller]}"
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
        self._policy_act = thought.act
        self.now = replace(self.now, probs=thought.probs, value=thought.value)

    def press(self, key: str) -> None:
        if key in self.game_keys:
            return
        match key:
            case "return":
                self.reset()
            case "m":
                self.controller = self._deputy if self.controller == "human" else "human"
            case "up" | "down" | "page up" | "page down":
                for world in filter(None, (place.imagined for place in self.worlds)):
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
        worlds = [place.imagined for place in self.worlds if place.imagined is not None]
        match command:
            case Press(key):
                self.press(key)
            case Pause():
                self.is_paused = True
            case SetEnv(name):
                self._enter(check_word("env", name, [place.name for place in self.worlds]))
            case SetController(name):
                self.controller = self._controllers[check_word("controller", name, self._controllers)]
                if self.controller == "replay" and self.recording is None:
                    self.recording = self.starts.draw_recording()
            case SetHorizon(steps):
                for world in worlds:
                    world.horizon = check_number("horizon", steps, LONGEST_HORIZON)
            case SetDenoising(steps):
                for world in filter(lambda each: isinstance(each, DenoisingWorld), worlds):
                    world.num_steps_denoising = check_number("denoising", steps, most_denoising(world))

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
        probs = now.probs if now.act is None else now.probs_before
        bars = zip(self.keys.signs(), probs, strict=False)
        return View(
            now.obs[0] if now.full_obs is None else now.full_obs[0],
            header_fields(now, self.world, room, who, self.keys, isinstance(self.policy, Thinker)),
            tuple(Bar(sign, share, act == now.act, self.keys.name(act)) for act, (sign, share) in enumerate(bars)),
            preview=None if now.full_obs is None else now.obs[0],
            score=self._scores.at(now) if self.world.shows_rewards else None,
            ended=self._scores.ended,
            status=(*(() if self.recorder is None else self.recorder.status), *(("paused",) if self.is_paused else ())),
            choices=play_choices(self.world, self.worlds, self.controller, self._controllers),
            wants_pointer=self.wants_pointer,
        )

    def networks(self) -> contextlib.AbstractContextManager:
        return autocast(self._device, self._precision)

    def _may_step(self) -> bool:
        is_due = not self.is_paused or self._wants_step
        self._wants_step = False
        return is_due

    def _enter(self, index: int) -> None:
        self._index = index
        self.reset()

    def _begin(self, start: Start, original_obs: Tensor | None) -> None:
        self.recording = self._find_recording(start.origin)
        if self.mind is not None:
            self.mind.begin(start.history)
        self.now = Moment(start.obs, original_obs, start.full_obs)
        self._think()

    def _find_recording(self, origin: Tensor | None) -> Recording | None:
        """The recording that an imagined episode starts from; in a real game a random one, if it may be replayed."""
        if origin is not None:
            return self.starts.recording(*origin[0].tolist())
        return self.starts.draw_recording() if "replay" in (self.controller, self._deputy) else None

    def _think(self) -> None:
        """Let the policy choose an action for this moment, whoever acts."""
        if self.mind is not None:
            self.take_thought(think([self.mind], self.now.obs)[0])

    def _choose(self, human_act: int | Tensor) -> int | Tensor | None:
        """The next action; None at the end of the recording that is replayed."""
        match self.controller:
            case "policy":
                return self._policy_act
            case "random":
                return self.keys.draw()
            case "replay":
                acts, place = self.recording.acts, self.now.step
                if place >= len(acts):
                    return None
                return int(acts[place]) if acts.ndim == 1 else acts[place]
        return human_act

    def _store_recording(self) -> None:
        if self.recorder is not None:
            self.recorder.store()
