"""An update of DreamerV3 in both ways, and the optimizer's share of it."""

import copy
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from agent import Agent
from benchmarks.timing import Result, Work, compare
from benchmarks.ways import NUM_ACTIONS, Bench, Way
from component import Component
from models.dreamer import Decoder, Encoder, Learner, LossConfig, Mlp, NetworkConfig, ReturnRange, Rows, Rssm
from models.dreamer.images import double
from models.laprop import LaProp
from optimizers import TrainingConfig
from run.ranks import Ranks

LR = 4e-5


class PlainLaProp(Optimizer):
    """LaProp with adaptive gradient clipping, one tensor after another, as its equations say it."""

    def __init__(self, params: Iterable[Tensor]) -> None:
        super().__init__(params, {"lr": LR})
        self.num_updates = 0

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        self.num_updates += 1
        (group,) = self.param_groups
        for param in [each for each in group["params"] if each.grad is not None]:
            state = self.state[param]
            if not state:
                state["square"], state["momentum"] = torch.zeros_like(param), torch.zeros_like(param)
            grad = param.grad / (param.grad.norm() / (0.3 * param.norm().clamp(min=1e-3))).clamp(min=1)
            state["square"] = 0.999 * state["square"] + 0.001 * grad**2
            scaled = grad / ((state["square"] / (1 - 0.999**self.num_updates)).sqrt() + 1e-20)
            state["momentum"] = 0.9 * state["momentum"] + 0.1 * scaled
            param -= group["lr"] * state["momentum"] / (1 - 0.9**self.num_updates)


class PlainDecoder(Decoder):
    """The decoder as its description says it: height and width are doubled, and then convolved."""

    def enlarge(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        return conv(double(x))


def measure_dreamer(bench: Bench) -> Iterator[Result]:
    """A whole update, and the optimizer's step alone.

    The plain way has the optimizer and the decoder above, and compiles nothing.
    """
    learner, rows = make_learner(bench, Decoder), make_rows(bench)
    plain_learner = make_learner(bench, PlainDecoder)
    plain_learner.load_state_dict(learner.state_dict())

    def make_component(way: Way) -> Component:
        module = copy.deepcopy(plain_learner if way is bench.plain else learner)
        if way.is_compiled:
            for each in module.networks_to_compile:
                each.compile(dynamic=False)
        schedule = {"start_after_epochs": 0, "steps_first_epoch": 0, "steps_per_epoch": 0, "lr_warmup_steps": 1}
        training = TrainingConfig(**schedule, batch_size=len(rows), max_grad_norm=None)

        def make_optimizer(module: nn.Module) -> Optimizer:
            params = [each for each in module.parameters() if each.requires_grad]
            return PlainLaProp(params) if way is bench.plain else LaProp(params, LR)

        ranks = Ranks(0, 1, bench.device)
        return Component("dreamer", module, lambda: (rows, {}), training, make_optimizer, way.precision, ranks)

    def make_update(way: Way) -> Work:
        return make_component(way).update

    def make_step(way: Way) -> Work:
        params = [each for each in copy.deepcopy(learner).parameters() if each.requires_grad]
        for each in params:
            each.grad = torch.randn_like(each)
        return (PlainLaProp(params) if way is bench.plain else LaProp(params, LR)).step

    yield compare("DreamerV3 update", bench, make_update, bench.sizes.repeats, counts_operations=False)
    yield compare("DreamerV3 optimizer", bench, make_step, 10 * bench.sizes.repeats, counts_operations=False)


def make_learner(bench: Bench, decoder: type[Decoder]) -> Learner:
    """The networks of a size; made here, because the package of the algorithm needs more libraries than they do."""
    unit, frame = bench.sizes.dreamer_unit, (3, bench.sizes.image, bench.sizes.image)
    config = NetworkConfig(deter=128 * unit, hidden=16 * unit, classes=unit, units=16 * unit, depth=unit)
    encoder, width, num_features = Encoder(config, frame), config.units, config.num_features
    networks = {
        "encoder": encoder,
        "rssm": Rssm(config, NUM_ACTIONS, encoder.num_tokens),
        "decoder": decoder(config, frame),
        "reward": Mlp(num_features, config.bins, width, config.reward_layers),
        "continue": Mlp(num_features, 1, width, config.continue_layers),
        "actor": Mlp(num_features, NUM_ACTIONS, width, config.actor_layers),
        "critic": Mlp(num_features, config.bins, width, config.critic_layers),
        "slow_critic": Mlp(num_features, config.bins, width, config.critic_layers).requires_grad_(False),
        "return_range": ReturnRange(),
    }
    return Learner(Agent(networks), LossConfig(), config.bins).to(bench.device)


def make_rows(bench: Bench) -> Rows:
    """Random rows without ends of episodes."""
    sizes, device = bench.sizes, bench.device
    shape, networks = (sizes.dreamer_batch, sizes.dreamer_length + 1), make_learner(bench, Decoder).networks
    obs = torch.randint(256, (*shape, 3, sizes.image, sizes.image), dtype=torch.uint8, device=device)
    flags = [torch.zeros(shape, dtype=torch.bool, device=device) for _ in range(3)]
    start = networks["rssm"].initial(shape[0])
    act = torch.randint(NUM_ACTIONS, shape, device=device)
    return Rows(obs, act, torch.randn(shape, device=device), *flags, start.deter, start.stoch.argmax(dim=-1))
