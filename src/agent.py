"""The agent: the named networks of a run, and the file that holds their weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from errors import UserError
from files import load_tensors, save_tensors
from models.actor_critic import ActorCritic, ActorCriticConfig, ActorCriticLossConfig
from models.diffusion import Denoiser, DenoiserConfig, InnerModelConfig, SigmaDistributionConfig
from models.rew_end_model import RewEndModel, RewEndModelConfig

COMPONENTS = ("denoiser", "upsampler", "rew_end_model", "actor_critic")


@dataclass(frozen=True)
class AgentConfig:
    """Configurations of the components that the agent has; `num_actions` is that of the environment and fills theirs.

    `num_actions` counts actions, or the entries of a multi-hot action.
    """

    denoiser: DenoiserConfig
    rew_end_model: RewEndModelConfig | None = None
    actor_critic: ActorCriticConfig | None = None
    num_actions: int | None = None
    upsampler: DenoiserConfig | None = None

    def __post_init__(self) -> None:
        if self.num_actions is None:
            return
        inner_model = replace(self.denoiser.inner_model, num_actions=self.num_actions)
        object.__setattr__(self, "denoiser", replace(self.denoiser, inner_model=inner_model))
        for name in ("rew_end_model", "actor_critic"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, replace(getattr(self, name), num_actions=self.num_actions))


AGENT_TARGETS: dict[str, type] = {
    "agent.AgentConfig": AgentConfig,
    "models.diffusion.DenoiserConfig": DenoiserConfig,
    "models.diffusion.InnerModelConfig": InnerModelConfig,
    "models.rew_end_model.RewEndModelConfig": RewEndModelConfig,
    "models.actor_critic.ActorCriticConfig": ActorCriticConfig,
}
"""What `_target_` may name in an agent's configuration file."""


class Agent(nn.Module):
    """A denoiser, and what else there is: upsampler, reward and termination model, actor-critic."""

    def __init__(
        self,
        config: AgentConfig,
        sigma_distributions: Mapping[str, SigmaDistributionConfig] | None = None,
        actor_critic_loss: ActorCriticLossConfig | None = None,
    ) -> None:
        """`sigma_distributions`: the noise levels in training of the components named there. None: the defaults."""
        super().__init__()
        levels = sigma_distributions or {}
        upsampler, rew_end_model, actor_critic = config.upsampler, config.rew_end_model, config.actor_critic
        self.denoiser = Denoiser(config.denoiser, levels.get("denoiser"))
        self.upsampler = None if upsampler is None else Denoiser(upsampler, levels.get("upsampler"))
        self.rew_end_model = None if rew_end_model is None else RewEndModel(rew_end_model)
        self.actor_critic = None if actor_critic is None else ActorCritic(actor_critic, actor_critic_loss)

    @property
    def components(self) -> tuple[str, ...]:
        """Names of those that this agent has."""
        return tuple(name for name in COMPONENTS if getattr(self, name) is not None)

    @property
    def large_networks(self) -> list[nn.Module]:
        """The parts that most of the work is in: worth compiling."""
        return [getattr(self, name).network_to_compile for name in self.components]

    def save(self, path: Path) -> None:
        """Write a flat dictionary `<component>.<parameter>` of tensors, atomically."""
        save_tensors({name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}, path)

    def load(self, path: Path, components: tuple[str, ...] = COMPONENTS) -> None:
        """Take over weights of the named components from a file, as far as this agent has these components.

        Raises UserError when they were made for others.
        """
        self.take(read_weights(path), str(path), components)

    def take(self, weights: dict[str, Tensor], origin: str, components: tuple[str, ...] = COMPONENTS) -> None:
        """Take over weights as `read_weights` returns them; `origin` is what an error calls them."""
        for component in (name for name in components if name in self.components):
            prefix = f"{component}."
            own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
            _load_exactly(getattr(self, component), own, component, origin)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The flat dictionary `<component>.<parameter>` of a published checkpoint, or one of ours, or a `state.pt`.

    Raises UserError when the file is missing or unreadable, or holds something else.
    """
    stored = load_tensors(Path(path))
    if isinstance(stored, dict) and isinstance(stored.get("agent"), dict):
        stored = stored["agent"]
    if not isinstance(stored, dict) or not all(torch.is_tensor(value) for value in stored.values()):
        raise UserError(f"{path} holds no agent: it needs to be a dictionary of tensors.")
    return stored


def _load_exactly(module: nn.Module, weights: dict[str, Tensor], component: str, origin: str) -> None:
    own = module.state_dict()
    if not weights:
        raise UserError(f"{origin} has no weights of the {component}.")
    missing = sorted(own.keys() - weights.keys())
    foreign = sorted(weights.keys() - own.keys())
    if missing or foreign:
        what = f"lacks {component}.{missing[0]}" if missing else f"also has {component}.{foreign[0]}"
        raise UserError(f"{origin} does not fit this agent: it {what}. Its networks have another configuration.")
    for name, value in own.items():
        if weights[name].shape != value.shape:
            seen, wanted = tuple(weights[name].shape), tuple(value.shape)
            raise UserError(f"{origin} does not fit this agent: {component}.{name} is {seen} there, {wanted} here.")
    module.load_state_dict(weights)
