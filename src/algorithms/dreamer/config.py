"""DreamerV3's settings: the size of its networks, the losses, the optimizer, and what it draws from the replay."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from torch import nn

from algorithms.config import AlgorithmConfig, TrainerConfig
from envs import frame_shape
from errors import UserError, near_matches
from models.dreamer import Learner, LossConfig, NetworkConfig, level_widths
from models.dreamer.config import Bins, Channels, Classes, Many
from models.laprop import LaProp
from optimizers import TrainingConfig
from ranges import Above, BadSetting, Between, Count, Fraction, Positive, Width

SIZES = {"1M": 4, "12M": 16, "25M": 24, "50M": 32, "100M": 48, "200M": 64, "400M": 96}
"""The unit of all widths, for each size (Hafner et al. 2023, table 3)."""
AUTO = "auto"
DEFAULT_SIZE, SIZE_ON_CPU = "200M", "12M"
OPTIMIZERS = ("joint", "separate")
"""One optimizer for all networks; or one each for the world model, the actor and the critic."""
Beta = Annotated[float, Between(0, 0.999999)]


@dataclass(frozen=True, kw_only=True)
class DreamerAlgorithm(AlgorithmConfig):
    """`size`: one of `SIZES`, which chooses the widths that `agent` leaves open; `auto` until the run begins.

    `optimizers`: one of `OPTIMIZERS`.
    """

    size: str
    optimizers: str = OPTIMIZERS[0]

    def __post_init__(self) -> None:
        for name, known in (("size", (*SIZES, AUTO)), ("optimizers", OPTIMIZERS)):
            if (value := getattr(self, name)) not in known:
                hint = near_matches(value, known)
                raise BadSetting(f"{name}={value} is unknown: there is {', '.join(known)}.{hint}")


@dataclass(frozen=True, kw_only=True)
class Widths:
    """The settings of `NetworkConfig`; None for widths that the size chooses."""

    deter: Width | None
    hidden: Width | None
    classes: Classes | None
    units: Width | None
    depth: Channels | None
    stoch: Many
    blocks: Many
    bins: Bins
    unimix: Fraction

    def of_size(self, size: str) -> NetworkConfig:
        """The networks of a size, except for the widths that are set."""
        unit = SIZES[size]
        sizes = {"deter": 128 * unit, "hidden": 16 * unit, "classes": unit, "units": 16 * unit, "depth": unit}
        return NetworkConfig(**{**sizes, **{name: value for name, value in vars(self).items() if value is not None}})


@dataclass(frozen=True, kw_only=True)
class LaPropSection:
    """LaProp with adaptive gradient clipping; the learning rate rises from 0 to `lr` during `warmup` updates.

    Separate optimizers of actor and critic may have learning rates of their own.
    """

    lr: Positive
    warmup: Count
    beta1: Beta
    beta2: Beta
    eps: Annotated[float, Above(0, 1)]
    clip: Positive
    smallest_norm: Positive
    actor_lr: Positive | None = None
    critic_lr: Positive | None = None

    def make(self, module: nn.Module) -> LaProp:
        """One optimizer for all parameters."""
        return self._make([each for each in module.parameters() if each.requires_grad])

    def make_separate(self, learner: Learner) -> LaProp:
        """Optimizers of world model, actor and critic: since LaProp treats each tensor by itself, groups in one."""
        groups: dict[str, list[nn.Parameter]] = {"world_model": [], "actor": [], "critic": []}
        for name, network in learner.networks.items():
            chosen = groups[name if name in groups else "world_model"]
            chosen += [each for each in network.parameters() if each.requires_grad]
        rates = {"world_model": self.lr, "actor": self.actor_lr or self.lr, "critic": self.critic_lr or self.lr}
        return self._make([{"name": name, "params": params, "lr": rates[name]} for name, params in groups.items()])

    def _make(self, params: list[Any]) -> LaProp:
        return LaProp(params, self.lr, self.beta1, self.beta2, self.eps, self.clip, self.smallest_norm)

    def lr_factor(self, num_updates: int) -> float:
        """The share of `lr` after that many updates: the first update changes no weights."""
        return min(1.0, num_updates / self.warmup)


@dataclass(frozen=True, kw_only=True)
class DreamerSection:
    """Updates on `batch_size` windows of `length` rows, and one more row before them as context.

    A row is an observation; the last one of an episode is a row, too. Updates begin when there are `prefill` windows,
    and each row is then trained on `train_ratio` times on average.
    """

    batch_size: Count
    length: Annotated[int, Between(2, 100_000)]
    train_ratio: Positive
    prefill: Count
    losses: LossConfig
    optimizer: LaPropSection

    @property
    def training(self) -> TrainingConfig:
        """What the training loop needs to know; the optimizer itself clips, and has its own warmup."""
        none = {"start_after_epochs": 0, "steps_first_epoch": 0, "steps_per_epoch": 0, "lr_warmup_steps": 0}
        return TrainingConfig(**none, batch_size=self.batch_size, max_grad_norm=None)

    @property
    def updates_per_row(self) -> float:
        return self.train_ratio / (self.batch_size * self.length)

    def num_prefill_rows(self, num_envs: int) -> int:
        """The number of rows, of all environments together, at which the first update is made."""
        return self.prefill + self.length * num_envs


@dataclass(frozen=True, kw_only=True)
class ImaginedSection:
    """Imagination in play and films: real frames that it starts from, and steps until an episode is truncated."""

    num_context_steps: Annotated[int, Between(1, 10_000)]
    horizon: Count


@dataclass(frozen=True, kw_only=True)
class DreamerConfig(TrainerConfig):
    algorithm: DreamerAlgorithm
    agent: Widths
    dreamer: DreamerSection
    imagined: ImaginedSection

    @property
    def networks(self) -> NetworkConfig:
        if self.algorithm.size == AUTO:
            raise UserError(f"algorithm.size=auto is for new runs: name one of {', '.join(SIZES)}.")
        try:
            return self.agent.of_size(self.algorithm.size)
        except BadSetting as error:
            raise UserError(f"agent.{error}") from None

    def chosen_for(self, kind: str) -> Mapping[str, Any]:
        if self.algorithm.size != AUTO:
            return {}
        return {"algorithm.size": DEFAULT_SIZE if kind == "cuda" else SIZE_ON_CPU}

    def check(self) -> None:
        super().check()
        try:
            level_widths(frame_shape(self.env.train), self.networks.depth)
        except BadSetting as error:
            raise UserError(f"env.train.{error}") from None
        self.check_collects()
        self._check_unused()
        train, rows = self.collection.train, self.dreamer.num_prefill_rows(self.collection.train.num_envs)
        if train.num_steps_total < rows:
            raise UserError(
                f"collection.train.num_steps_total={train.num_steps_total} is too few: the first update needs {rows} "
                "steps (dreamer.prefill, and dreamer.length for each environment)."
            )

    def _check_unused(self) -> None:
        """Raise UserError for settings that would do nothing."""
        if self.algorithm.optimizers != "separate":
            for name in ("actor_lr", "critic_lr"):
                if (value := getattr(self.dreamer.optimizer, name)) is not None:
                    raise UserError(f"dreamer.optimizer.{name}={value} needs algorithm.optimizers=separate.")
