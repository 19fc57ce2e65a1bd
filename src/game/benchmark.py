"""Frames per second in imagination and in the real game, and where the time is spent."""

import time
from collections.abc import Callable
from typing import Any

import torch
from tqdm import tqdm

from game.play_env import PlayEnv
from game.prediction_env import PredictionEnv
from game.view import Playable
from game.window.painter import Painter

WARM_UP = 5


class Stopwatch:
    """Adds up the time of named calls, including their work on the device."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self._device = device

    def wrap(self, owner: Any, method: str, name: str) -> None:
        """Time every call of an object's method under that name."""
        setattr(owner, method, self._timed(getattr(owner, method), name))

    def _timed(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = self.now()
            result = call(*args, **kwargs)
            self.seconds[name] = self.seconds.get(name, 0.0) + self.now() - started
            return result

        return timed

    def now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def measure(play: PlayEnv | PredictionEnv, painter: Painter, num_steps: int, device: torch.device) -> str:
    """Play that many steps in each world, or make as many predictions of recorded frames.

    Returns a table of frames per second and the share of each part.
    """
    lines = []
    stopwatch = Stopwatch(device)
    stopwatch.wrap(painter, "paint", "drawing")
    if isinstance(play, PredictionEnv):
        for name, (owner, method) in play.predictor.world.parts().items():
            stopwatch.wrap(owner, method, name)
        return "\n".join(_measure("predictions", play, painter, num_steps, stopwatch))
    if play.policy is not None:
        stopwatch.wrap(play.policy, "act", "policy")
    for world in play.worlds:
        parts = {"emulator": (world.env, "step")} if world.imagined is None else world.imagined.parts()
        for name, (owner, method) in parts.items():
            stopwatch.wrap(owner, method, name)
    for world in play.worlds:
        lines += _measure(world.label, play, painter, num_steps, stopwatch)
        play.press("right")
    play.close()
    return "\n".join(lines)


def _measure(label: str, playable: Playable, painter: Painter, num_steps: int, stopwatch: Stopwatch) -> list[str]:
    def tick() -> None:
        if playable.is_still:
            playable.press("space")
        playable.tick([])

    for _ in range(WARM_UP):
        tick()
        playable.view()
    stopwatch.seconds.clear()
    started = stopwatch.now()
    for _ in tqdm(range(num_steps), label, leave=False):
        tick()
        painter.paint(playable.view())
    return _report(label, num_steps, stopwatch.now() - started, stopwatch.seconds)


def _report(label: str, num_steps: int, total: float, seconds: dict[str, float]) -> list[str]:
    parts = {**seconds, "other": total - sum(seconds.values())}
    lines = [f"{label}: {num_steps / total:.1f} frames per second, {1000 * total / num_steps:.1f} ms a frame"]
    for name, spent in sorted(parts.items(), key=lambda part: -part[1]):
        lines.append(f"  {name:<22}{1000 * spent / num_steps:8.2f} ms {spent / total:6.1%}")
    return lines
