"""Named networks, and the file that holds their weights."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from errors import UserError, one_line
from files import is_plain_tensor, load_tensors, require_plain_file, save_tensors
from models.actor_critic import ActorCriticConfig
from models.diffusion import DenoiserConfig
from models.rew_end_model import RewEndModelConfig
from ranges import BadSetting, Whole

SAFETENSORS = ".safetensors"
MOMENTS = {"step": False, "exp_avg": True, "exp_avg_sq": True}
"""What AdamW keeps for a parameter, and whether it has the parameter's shape."""


@dataclass(frozen=True)
class AgentConfig:
    """The published configuration of DIAMOND's networks; None for a network that an agent does not have.

    `num_actions` is the number of actions of the environment, or of entries of an action vector; it is copied into the
    configuration of every network.
    """

    denoiser: DenoiserConfig
    rew_end_model: RewEndModelConfig | None = None
    actor_critic: ActorCriticConfig | None = None
    num_actions: Whole | None = None
    upsampler: DenoiserConfig | None = None

    def __post_init__(self) -> None:
        if self.denoiser.upsampling_factor is not None:
            factor = self.denoiser.upsampling_factor
            raise BadSetting(f"denoiser.upsampling_factor={factor} must be null: only the upsampler enlarges frames.")
        if self.num_actions is None:
            return
        object.__setattr__(self, "denoiser", self.denoiser.with_actions(self.num_actions))
        for name in ("rew_end_model", "actor_critic"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, replace(getattr(self, name), num_actions=self.num_actions))


class Agent(nn.Module):
    """Networks by name; None for a network that this agent does not have."""

    def __init__(self, networks: Mapping[str, nn.Module | None]) -> None:
        super().__init__()
        for name, network in networks.items():
            self.add_module(name, network)

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the networks that this agent has."""
        return tuple(name for name, _ in self.named_children())

    @property
    def networks_to_compile(self) -> list[nn.Module]:
        """The parts to compile: the `network_to_compile` of each network that has one."""
        return [each.network_to_compile for each in self.children() if hasattr(each, "network_to_compile")]

    def save(self, path: Path) -> None:
        """Write a flat dictionary `<component>.<parameter>` of tensors, atomically."""
        save_tensors({name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}, path)

    def load(self, path: Path, components: Collection[str] | None = None) -> None:
        """Load weights from a file: of all components that this agent has, or only of those in `components`.

        Raises UserError if the file's weights have other names or shapes.
        """
        self.take(read_weights(path), str(path), components)

    def take(self, weights: Mapping[str, Tensor], origin: str, components: Collection[str] | None = None) -> None:
        """Load weights as `read_weights` returns them; `origin` names them in error messages."""
        for name in self.components if components is None else [own for own in self.components if own in components]:
            prefix = f"{name}."
            own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
            _load_exactly(getattr(self, name), own, name, origin)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the flat dictionary `<component>.<parameter>` from a checkpoint of this project or a published one.

    A `state.pt` works too, a `.safetensors` file, and a `.pth` of the published kitchen predictor.
    Raises UserError if the file is missing, unreadable, or not a dictionary of tensors.
    """
    path = Path(path)
    stored = _load_safetensors(path) if path.suffix == SAFETENSORS else load_tensors(path)
    if isinstance(stored, dict) and isinstance(stored.get("agent"), dict):
        stored = stored["agent"]
    if isinstance(stored, dict) and isinstance(stored.get("model_state_dict"), dict):
        # The published kitchen predictor is one network, under names of its own.
        stored = {f"denoiser.inner_model.{name}": value for name, value in stored["model_state_dict"].items()}
    if not isinstance(stored, dict) or not stored or not all(isinstance(name, str) for name in stored):
        raise UserError(f"{path} holds no agent: it needs to be a dictionary of tensors.")
    for name, value in stored.items():
        if not is_plain_tensor(value):
            raise UserError(f"{path} holds no agent: {name} is not a dense tensor.")
    return stored


def read_moments(path: Path) -> dict[str, dict[str, Tensor]]:
    """Read AdamW's state, by the names of the denoiser's parameters, from a `.pth` of the published kitchen predictor.

    Raises UserError if the file holds none, or none that fits its own weights.
    """
    stored = load_tensors(Path(path))
    try:
        weights, state = stored["model_state_dict"], stored["optimizer_state_dict"]["state"]
        # Its only group has the parameters in the network's order, and the network has no buffers.
        moments = {f"inner_model.{name}": state[number] for number, name in enumerate(weights)}
        shapes = [(weight.shape, moment) for weight, moment in zip(weights.values(), moments.values(), strict=True)]
        fits = all(
            moment.keys() == MOMENTS.keys()
            and all(is_plain_tensor(each) and each.isfinite().all() for each in moment.values())
            and all(moment[name].shape == (shape if is_like else ()) for name, is_like in MOMENTS.items())
            for shape, moment in shapes
        )
    except (TypeError, KeyError, AttributeError, IndexError):
        fits = False
    if not fits:
        raise UserError(f"{path} holds no state of an optimizer: use initialization.load_optimizer=false.")
    return moments


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    require_plain_file(path)
    try:
        # The benchmark needs PyTorch and NumPy alone.
        from safetensors.torch import load_file

        return load_file(path)
    # A damaged header can make any step fail.
    except Exception as error:
        raise UserError(f"{path} is damaged, or is no safetensors file ({one_line(error)}).") from None


def _load_exactly(module: nn.Module, weights: Mapping[str, Tensor], component: str, origin: str) -> None:
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
            why = _colours(seen, wanted) if name.endswith("conv_in.weight") else ""
            raise UserError(
                f"{origin} does not fit this agent: {component}.{name} is {seen} there, {wanted} here{why}."
            )
        if not weights[name].isfinite().all():
            raise UserError(f"{origin} is unusable: {component}.{name} has values that are infinite or not a number.")
    module.load_state_dict(weights)


def _colours(seen: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """What it means if the first layers for frames differ only by a factor of 3 in their input channels."""
    if seen[:1] + seen[2:] != wanted[:1] + wanted[2:] or 3 not in (seen[1] / wanted[1], wanted[1] / seen[1]):
        return ""
    grey, colour = ("weights", "frames") if seen[1] < wanted[1] else ("frames", "weights")
    return f": the {grey} are grey, and the {colour} have colours (env.train.grayscale)"
