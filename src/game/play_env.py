"""Acting in imagined and real environments, by a person, a policy or a recording, one step at a time."""

import contextlib
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from data import Start, Step
from envs import RealEnv, WorldModelEnv
from game.keys import ActionKeys
from game.layout_keys import LayoutKeys
from game.recorder import Recorder
from game.starts import Drawn, Starts
from game.view import Bar, Field, View, number
from models.actor_critic import ActorCritic
from models.losses import sample_categorical
from run.device import autocast

CPU = torch.device("cpu")
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
    """What is seen now, how it was come by, and what the policy thinks of it.

    `full_obs` is the frame as an upsampler draws it, `original_obs` as the real game does.
    """

    obs: Tensor
    original_obs: Tensor | None = None
    full_obs: Tensor | None = None
    step: int = 0
    total: float = 0.0
    act: int | Tensor | None = None
    rew: float = 0.0
    end: bool = False
    trunc: bool = False
    probs: tuple[float, ...] = ()
    value: float = 0.0


class PlayEnv:
    """A player in one of several worlds, of which the agent's policy, if it has one, knows what it would do."""

    repeating_keys = frozenset({"up", "down", "page up", "page down", "e"})
    is_still = False

    def __init__(
        self,
        worlds: list[World],
        policy: ActorCritic | None,
        keys: ActionKeys | LayoutKeys,
        controller: str = "policy",
        starts: Starts | None = None,
        recorder: Recorder | None = None,
        store_denoising_trajectory: bool = False,
        precision: torch.dtype = torch.float32,
        device: torch.device = CPU,
        store_original_obs: bool = False,
    ) -> None:
        """`starts` are those of the world model, and the recordings whose actions the controller `replay` takes.

        Networks run in `precision` on `device`. With `store_original_obs`, recordings also hold frames in full size.
        """
        self.worlds = worlds
        self.policy = policy
        self.keys = keys
        self.controller = controller
        self.starts = starts
        self.recorder = recorder
        self.is_paused = False
        self.game_keys = keys.game_keys
        self._precision = precision
        self._device = device
        self._store_original_obs = store_original_obs
        self._store_denoising_trajectory = store_denoising_trajectory
        self._wants_step = False
        self._index = 0
        self._drawn: Drawn | None = None
        self._upcoming: tuple[Start, Tensor | None, Drawn | None] | None = None
        # What `m` hands over to, and takes over from.
        self._deputy = controller if controller != "human" else "policy" if policy is not None else "replay"
        self.reset()

    @property
    def world(self) -> World:
        return self.worlds[self._index]

    @property
    def wants_pointer(self) -> bool:
        return self.keys.has_mouse and self.controller == "human" and not self.is_paused

    @torch.no_grad()
    def reset(self) -> None:
        """Begin anew in the current world; what was recorded so far is stored."""
        self._store_recording()
        original = None if self.world.original is None else self.world.original.reset().obs
        with self._networks():
            start = self.world.env.reset()
        self._begin(start, original, self._next_drawn())

    @torch.no_grad()
    def step(self, human_act: int | Tensor = 0) -> None:
        """One step of the current controller; behind the end of an episode, the start of the next one."""
        now, world = self.now, self.world
        if now.end or now.trunc:
            self._begin(*self._upcoming)
            return
        act = self._choose(human_act)
        if act is None:
            self.reset()
            return
        acts = torch.as_tensor(act)[None].to(now.obs.device)
        with self._networks():
            world.env.prepare(1)
            answer = world.env.step(acts)
        original = None if world.original is None else world.original.step(acts)
        rew, end, trunc = torch.stack((answer.rew[0], answer.end[0].float(), answer.trunc[0].float())).tolist()
        self.now = replace(
            now,
            obs=answer.final_obs,
            original_obs=None if original is None else original.final_obs,
            full_obs=answer.final_full_obs,
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
            self._upcoming = Start(answer.obs, answer.history, answer.full_obs), next_original, self._next_drawn()
        else:
            self._think()

    def press(self, key: str) -> None:
        if key in self.game_keys:
            return
        match key:
            case "return":
                self.reset()
            case "m":
                self.controller = self._deputy if self.controller == "human" else "human"
            case "up" | "down" | "page up" | "page down":
                self._change_horizon(1 if key.endswith("up") else -1)
            case "left" | "right":
                self._index = (self._index + (1 if key == "right" else -1)) % len(self.worlds)
                self.reset()
            case ".":
                self.is_paused = not self.is_paused
            case "e":
                self._wants_step = self.is_paused

    def tick(self, held: list[str], motion: tuple[int, int] = (0, 0)) -> None:
        if not self.is_paused or self._wants_step:
            self._wants_step = False
            self.step(self.keys.action(held, motion))

    def close(self) -> None:
        self._store_recording()

    def view(self) -> View:
        now, keys = self.now, self.keys
        bars = enumerate(zip(keys.signs(), now.probs, strict=False))
        return View(
            now.obs[0] if now.full_obs is None else now.full_obs[0],
            self._fields(),
            tuple(Bar(sign, share, act == now.act) for act, (sign, share) in bars),
            preview=None if now.full_obs is None else now.obs[0],
        )

    def _fields(self) -> tuple[Field, ...]:
        now, keys, env = self.now, self.keys, self.world.env
        is_imagined = isinstance(env, WorldModelEnv)
        fields = [
            Field("", self.world.label, max(len(world.label) for world in self.worlds)),
            Field("", f"{self.controller} (paused)" if self.is_paused else self.controller, 15),
            Field("step", str(now.step), 10),
            Field("horizon", str(env.horizon) if is_imagined else "-", 12),
        ]
        if not is_imagined or env.rew_end_model is not None:
            fields += [
                Field("return", number(now.total, 9), 16),
                Field("reward", number(now.rew, 7, "+"), 14),
                Field("end", _yes(now.end), 7),
            ]
        fields += [
            Field("trunc", _yes(now.trunc), 9),
            Field("action", "-" if now.act is None else keys.name(now.act), 7 + keys.longest_name),
        ]
        if self.policy is not None:
            fields += [
                Field("entropy", f"{_entropy(now.probs):.2f} bits", 17),
                Field("value", number(now.value, 7), 13),
            ]
        return tuple(fields)

    def _begin(self, start: Start, original_obs: Tensor | None, drawn: Drawn | None) -> None:
        if self.policy is not None:
            self._hx_cx = self.policy.initial_memory(1)
            for frame in [] if start.history is None else start.history.unbind(1):
                with self._networks():
                    *_, self._hx_cx = self.policy.predict(frame, self._hx_cx)
        self._drawn = drawn
        self.now = Moment(start.obs, original_obs, start.full_obs)
        self._think()

    def _next_drawn(self) -> Drawn | None:
        """The recording that belongs to the start which the world has just taken."""
        if isinstance(self.world.env, WorldModelEnv):
            # Starts are used in the order in which they were drawn.
            return self.starts.drawn.popleft()
        return self.starts.draw_episode() if "replay" in (self.controller, self._deputy) else None

    def _think(self) -> None:
        if self.policy is None:
            return
        with self._networks():
            self._logits, value, self._hx_cx = self.policy.predict(self.now.obs, self._hx_cx)
        probs = self._logits.float().softmax(-1)[0]
        *shares, value = torch.cat((probs, value)).tolist()
        self.now = replace(self.now, probs=tuple(shares), value=value)

    def _choose(self, human_act: int | Tensor) -> int | Tensor | None:
        """The next action; None where the recording whose actions are replayed is over."""
        match self.controller:
            case "policy":
                return int(sample_categorical(self._logits))
            case "random":
                return self.keys.draw()
            case "replay":
                acts, place = self._drawn.acts, self.now.step
                if place >= len(acts):
                    return None
                return int(acts[place]) if acts.ndim == 1 else acts[place]
        return human_act

    def _networks(self) -> contextlib.AbstractContextManager:
        return autocast(self._device, self._precision)

    def _change_horizon(self, by: int) -> None:
        for world in self.worlds:
            if isinstance(world.env, WorldModelEnv):
                world.env.horizon = max(1, world.env.horizon + by)

    def _record(self, before: Moment, answer: Step) -> None:
        extras = {}
        larger = before.original_obs if before.full_obs is None else before.full_obs
        if self._store_original_obs and larger is not None:
            extras["original_obs"] = larger[0].cpu()
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
