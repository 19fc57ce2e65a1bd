"""Acting in imagined and real environments, by a person or by the policy, one step at a time."""

import contextlib
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from data import Start, Step
from envs import RealEnv, WorldModelEnv
from game.keys import ActionKeys
from game.recorder import Recorder
from game.starts import Drawn, Starts
from game.view import Bar, Field, View, number
from models.actor_critic import ActorCritic
from models.losses import sample_categorical
from run.device import autocast

CONTROLLERS = {"policy": "π", "human": "H", "random": "random", "replay": "replay"}
"""Who may act, and what their recordings are called."""


@dataclass(frozen=True)
class World:
    """One environment to be in; `original` is its twin that shows frames as large as the game draws them."""

    name: str
    label: str
    env: WorldModelEnv | RealEnv
    original: RealEnv | None = None


@dataclass(frozen=True)
class Moment:
    """What is seen now, how it was come by, and what the policy thinks of it."""

    obs: Tensor
    original_obs: Tensor | None = None
    step: int = 0
    total: float = 0.0
    act: int | None = None
    rew: float = 0.0
    end: bool = False
    trunc: bool = False
    probs: tuple[float, ...] = ()
    value: float = 0.0


class PlayEnv:
    """A player in one of several worlds, of which the agent's policy knows what it would do."""

    repeating_keys = frozenset({"up", "down", "e"})
    is_still = False

    def __init__(
        self,
        worlds: list[World],
        policy: ActorCritic,
        keys: ActionKeys,
        controller: str = "policy",
        starts: Starts | None = None,
        recorder: Recorder | None = None,
        store_denoising_trajectory: bool = False,
        precision: torch.dtype = torch.float32,
    ) -> None:
        """`starts` are those of the world model, and the recordings whose actions the controller `replay` takes.

        Networks run in `precision`.
        """
        self.worlds = worlds
        self.policy = policy
        self.keys = keys
        self.controller = controller
        self.starts = starts
        self.recorder = recorder
        self.is_paused = False
        self._precision = precision
        self._store_denoising_trajectory = store_denoising_trajectory
        self._wants_step = False
        self._index = 0
        self._drawn: Drawn | None = None
        self._upcoming: tuple[Start, Tensor | None, Drawn | None] | None = None
        self.reset()

    @property
    def world(self) -> World:
        return self.worlds[self._index]

    @torch.no_grad()
    def reset(self) -> None:
        """Begin anew in the current world; what was recorded so far is stored."""
        self._store_recording()
        original = None if self.world.original is None else self.world.original.reset().obs
        with self._networks():
            start = self.world.env.reset()
        self._begin(start, original, self._next_drawn())

    @torch.no_grad()
    def step(self, human_act: int = 0) -> None:
        """One step of the current controller; behind the end of an episode, the start of the next one."""
        now, world = self.now, self.world
        if now.end or now.trunc:
            self._begin(*self._upcoming)
            return
        act = self._choose(human_act)
        if act is None:
            self.reset()
            return
        acts = torch.tensor([act], device=now.obs.device)
        with self._networks():
            world.env.prepare(1)
            answer = world.env.step(acts)
        original = None if world.original is None else world.original.step(acts)
        rew, end, trunc = torch.stack((answer.rew[0], answer.end[0].float(), answer.trunc[0].float())).tolist()
        self.now = replace(
            now,
            obs=answer.final_obs,
            original_obs=None if original is None else original.final_obs,
            step=now.step + 1,
            total=now.total + rew,
            act=act,
            rew=rew,
            end=bool(end),
            trunc=bool(trunc),
        )
        if self.recorder is not None:
            self._record(now, answer)
        if end or trunc:
            # The world has begun the next episode already, although this one's last frame is still to be seen.
            next_original = None if original is None else original.obs
            self._upcoming = Start(answer.obs, answer.history), next_original, self._next_drawn()
        else:
            self._think()

    def press(self, key: str) -> None:
        match key:
            case "return":
                self.reset()
            case "m":
                self.controller = "policy" if self.controller == "human" else "human"
            case "up" | "down":
                self._change_horizon(1 if key == "up" else -1)
            case "left" | "right":
                self._index = (self._index + (1 if key == "right" else -1)) % len(self.worlds)
                self.reset()
            case ".":
                self.is_paused = not self.is_paused
            case "e":
                self._wants_step = self.is_paused

    def tick(self, held: list[str]) -> None:
        if not self.is_paused or self._wants_step:
            self._wants_step = False
            self.step(self.keys.action(held))

    def close(self) -> None:
        self._store_recording()

    def view(self) -> View:
        now, names, env = self.now, self.keys.names, self.world.env
        horizon = env.horizon if isinstance(env, WorldModelEnv) else "-"
        fields = (
            Field("", self.world.label, max(len(world.label) for world in self.worlds)),
            Field("", f"{self.controller} (paused)" if self.is_paused else self.controller, 15),
            Field("step", str(now.step), 10),
            Field("horizon", str(horizon), 11),
            Field("return", number(now.total, 9), 16),
            Field("reward", number(now.rew, 7, "+"), 14),
            Field("end", _yes(now.end), 7),
            Field("trunc", _yes(now.trunc), 9),
            Field("action", "-" if now.act is None else names[now.act], 7 + max(map(len, names))),
            Field("entropy", f"{_entropy(now.probs):.2f} bits", 17),
            Field("value", number(now.value, 7), 13),
        )
        bars = enumerate(zip(self.keys.signs(), now.probs, strict=True))
        return View(now.obs[0], fields, tuple(Bar(sign, share, act == now.act) for act, (sign, share) in bars))

    def _begin(self, start: Start, original_obs: Tensor | None, drawn: Drawn | None) -> None:
        self._hx_cx = self.policy.initial_memory(1)
        for frame in [] if start.history is None else start.history.unbind(1):
            with self._networks():
                *_, self._hx_cx = self.policy.predict(frame, self._hx_cx)
        self._drawn = drawn
        self.now = Moment(start.obs, original_obs)
        self._think()

    def _next_drawn(self) -> Drawn | None:
        """The recording that belongs to the start which the world has just taken."""
        if isinstance(self.world.env, WorldModelEnv):
            # Starts are used in the order in which they were drawn.
            return self.starts.drawn.popleft()
        return self.starts.draw_episode() if self.controller == "replay" else None

    def _think(self) -> None:
        with self._networks():
            self._logits, value, self._hx_cx = self.policy.predict(self.now.obs, self._hx_cx)
        probs = self._logits.float().softmax(-1)[0]
        *shares, value = torch.cat((probs, value)).tolist()
        self.now = replace(self.now, probs=tuple(shares), value=value)

    def _choose(self, human_act: int) -> int | None:
        """The next action; None where the recording whose actions are replayed is over."""
        match self.controller:
            case "policy":
                return int(sample_categorical(self._logits))
            case "random":
                return int(torch.randint(len(self.keys.names), ()))
            case "replay":
                place = self._drawn.step + self.now.step
                return int(self._drawn.episode.act[place]) if place < len(self._drawn.episode) else None
        return human_act

    def _networks(self) -> contextlib.AbstractContextManager:
        return autocast(self.policy.critic_linear.weight.device, self._precision)

    def _change_horizon(self, by: int) -> None:
        for world in self.worlds:
            if isinstance(world.env, WorldModelEnv):
                world.env.horizon = max(1, world.env.horizon + by)

    def _record(self, before: Moment, answer: Step) -> None:
        extras = {}
        if before.original_obs is not None:
            extras["original_obs"] = before.original_obs[0]
        if self._store_denoising_trajectory and answer.trajectory is not None:
            extras["denoising_trajectory"] = torch.cat(answer.trajectory).half().cpu()
        now, name = self.now, f"{self.world.name}_{CONTROLLERS[self.controller]}"
        flags = now.rew, now.end, now.trunc
        self.recorder.add(name, before.obs[0].cpu(), now.act, flags, now.obs[0].cpu(), **extras)

    def _store_recording(self) -> None:
        if self.recorder is not None:
            self.recorder.store()


def _entropy(probs: tuple[float, ...]) -> float:
    return -sum(share * math.log2(share) for share in probs if share > 0)


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"
