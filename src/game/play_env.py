"""Acting in imagined and real environments, by a person, a policy or a recording, one step at a time."""

import contextlib
from dataclasses import replace

import torch
from torch import Tensor

from data import Start, Step
from game.header import header_fields
from game.idle_keys import IdleKeys
from game.keys import ActionKeys
from game.layout_keys import LayoutKeys
from game.moment import Moment, Place
from game.recorder import Recorder
from game.starts import Recording, StartSource
from game.view import Bar, View
from rl.policy import Policy, Rememberer, Thinker
from run.device import autocast

CPU = torch.device("cpu")
CONTROLLERS = {"policy": "π", "human": "H", "random": "random", "replay": "replay"}
"""Who may act, and what their recordings are called."""


class PlayEnv:
    """A player in one of several worlds. The agent's policy, if there is one, is asked at every step, whoever acts."""

    repeating_keys = frozenset({"up", "down", "page up", "page down", "e"})
    is_still = False

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
        self._store_original_obs = store_original_obs
        self._store_denoising_trajectory = store_denoising_trajectory
        self._wants_step = False
        self._index = 0
        self._upcoming: tuple[Start, Tensor | None] | None = None
        # `m` switches between a person and this controller.
        self._deputy = controller if controller != "human" else "policy" if policy is not None else "replay"
        self.reset()

    @property
    def world(self) -> Place:
        return self.worlds[self._index]

    @property
    def wants_pointer(self) -> bool:
        return self.keys.has_mouse and self.controller == "human" and not self.is_paused

    @torch.no_grad()
    def reset(self) -> None:
        """Start an episode in the current world; what was recorded so far is stored."""
        self._store_recording()
        original = None if self.world.original is None else self.world.original.reset().obs
        with self._networks():
            start = self.world.env.reset()
        self._begin(start, original)

    @torch.no_grad()
    def step(self, human_act: int | Tensor = 0) -> None:
        """One step of the current controller; after the end of an episode, the start of the next one."""
        now, world = self.now, self.world
        if now.is_last:
            self._begin(*self._upcoming)
            return
        act = self._choose(human_act)
        if act is None:
            self.reset()
            return
        acts = torch.as_tensor(act)[None].to(now.obs.device)
        if isinstance(self.policy, Rememberer):
            self._memory = self.policy.took(self._memory, acts.to(self._device))
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
            going_on=None if answer.going_on is None else float(answer.going_on[0]),
        )
        if self.recorder is not None:
            self._record(now, answer)
        if end or trunc:
            # The world has started the next episode already, although this one's last frame is still shown.
            next_original = None if original is None else original.obs
            self._upcoming = Start(answer.obs, answer.history, answer.full_obs, answer.origin), next_original
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
        now, signs = self.now, self.keys.signs()
        who = f"{self.controller} (paused)" if self.is_paused else self.controller
        room = max(len(world.label) for world in self.worlds)
        bars = enumerate(zip(signs, now.probs, strict=False))
        return View(
            now.obs[0] if now.full_obs is None else now.full_obs[0],
            header_fields(now, self.world, room, who, self.keys, isinstance(self.policy, Thinker)),
            tuple(Bar(sign, share, act == now.act) for act, (sign, share) in bars),
            preview=None if now.full_obs is None else now.obs[0],
        )

    def _begin(self, start: Start, original_obs: Tensor | None) -> None:
        self.recording = self._find_recording(start.origin)
        if self.policy is not None:
            self._memory, is_first = self.policy.initial(1), torch.ones(1, dtype=torch.bool, device=self._device)
            for frame in [] if start.history is None else start.history.unbind(1):
                with self._networks():
                    _, self._memory = self.policy.act(frame, self._memory, is_first)
                is_first = torch.zeros_like(is_first)
            self._is_first = is_first
        self.now = Moment(start.obs, original_obs, start.full_obs)
        self._think()

    def _find_recording(self, origin: Tensor | None) -> Recording | None:
        """The recording that an imagined episode starts from; in a real game a random one, if it may be replayed."""
        if origin is not None:
            return self.starts.recording(*origin[0].tolist())
        return self.starts.draw_recording() if "replay" in (self.controller, self._deputy) else None

    def _think(self) -> None:
        """Let the policy choose an action for this moment, whoever acts."""
        if self.policy is None:
            return
        with self._networks():
            self._policy_act, self._memory = self.policy.act(self.now.obs, self._memory, self._is_first)
        self._is_first = torch.zeros_like(self._is_first)
        if isinstance(self.policy, Thinker):
            probs, value = self.policy.thoughts(self._memory)
            *shares, value = torch.cat((probs[0], value)).tolist()
            self.now = replace(self.now, probs=tuple(shares), value=value)

    def _choose(self, human_act: int | Tensor) -> int | Tensor | None:
        """The next action; None at the end of the recording that is replayed."""
        match self.controller:
            case "policy":
                act = self._policy_act[0]
                return int(act) if act.ndim == 0 else act
            case "random":
                return self.keys.draw()
            case "replay":
                acts, place = self.recording.acts, self.now.step
                if place >= len(acts):
                    return None
                return int(acts[place]) if acts.ndim == 1 else acts[place]
        return human_act

    def _networks(self) -> contextlib.AbstractContextManager:
        return autocast(self._device, self._precision)

    def _change_horizon(self, by: int) -> None:
        for world in self.worlds:
            if world.imagined is not None:
                world.imagined.horizon = max(1, world.imagined.horizon + by)

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
