"""Who acts: the agent's policy, a person, chance, or a recording."""

import torch
from torch import Tensor

from game.choices import CONTROLLERS, check_word
from game.idle_keys import IdleKeys
from game.keys import ActionKeys
from game.layout_keys import LayoutKeys
from game.starts import Recording, StartSource


class Controllers:
    """Chooses the actions of the one that acts now; a person and another one can take over from each other."""

    def __init__(
        self,
        name: str,
        keys: ActionKeys | LayoutKeys | IdleKeys,
        has_policy: bool,
        starts: StartSource | None,
    ) -> None:
        """`name`: who acts first. Without `starts`, there are no recordings to replay."""
        missing = {"policy": not has_policy, "replay": starts is None}
        self.names = [each for each in CONTROLLERS if not missing.get(each, False)]
        self.name = name
        self.recording: Recording | None = None
        """What was recorded from this episode's start on, where that is known."""
        self.policy_act: int | Tensor | None = None
        """What the policy would do now."""
        self._keys = keys
        self._starts = starts
        # A person hands over to this one.
        self._deputy = name if name != "human" else "policy" if has_policy else "replay"

    @property
    def sign(self) -> str:
        """What recordings of the one that acts are called."""
        return CONTROLLERS[self.name]

    def switch(self) -> None:
        """Between a person and the other one."""
        self.name = self._deputy if self.name == "human" else "human"

    def set(self, name: str) -> None:
        """Raises UserError if there is nobody of that name."""
        self.name = self.names[check_word("controller", name, self.names)]
        if self.name == "replay" and self.recording is None:
            self.recording = self._starts.draw_recording()

    def begin(self, origin: Tensor | None) -> None:
        """An episode begins. If it is imagined, `origin` (1, 2) names the recorded step that it starts from.

        In a real game, a random recording is replayed.
        """
        self.recording = None
        if origin is not None:
            self.recording = self._starts.recording(*origin[0].tolist())
        elif "replay" in (self.name, self._deputy):
            self.recording = self._starts.draw_recording()

    def choose(self, step: int, human_act: int | Tensor) -> int | Tensor | None:
        """The action at that step of the episode; None at the end of the recording that is replayed."""
        match self.name:
            case "policy":
                return self.policy_act
            case "random":
                return self._keys.draw()
            case "replay":
                acts = self.recording.acts
                if step >= len(acts):
                    return None
                return int(acts[step]) if acts.ndim == 1 else acts[step]
        return human_act


def as_batch(act: int | Tensor, device: torch.device) -> Tensor:
    """Actions (1), or vectors (1, size), for an environment."""
    return torch.as_tensor(act)[None].to(device)
