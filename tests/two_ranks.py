"""What each of two processes does in `test_distributed.py`; a module of its own, as new processes import it by name."""

import copy
import gc
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from algorithms import read_settings
from component import Component
from data import Batch
from errors import UserError
from models.actor_critic import ActorCritic, ActorCriticConfig, Rollout
from models.diffusion import Denoiser, DenoiserConfig, InnerModelConfig
from models.rew_end_model import RewEndModel, RewEndModelConfig
from optimizers import OptimizerConfig, TrainingConfig
from run.folder import RunFolder
from run.interrupt import Interrupted
from run.ranks import Ranks
from trainer import Trainer
from training.stops import Stops

SIZE, B = 8, 6


class Replayed:
    """`torch.randn` for a share of the joined batch: draws for all, hands out the share's rows."""

    def __init__(self, rows: slice) -> None:
        self.rows = rows
        self.rng = torch.Generator().manual_seed(0)

    def __call__(self, *shape: int, device: torch.device) -> Tensor:
        return torch.randn(B, *shape[1:], generator=self.rng)[self.rows]


def compare_gradients(path: Path, ranks: Ranks) -> int:
    """For each network, write the distance of the two-rank gradient from the gradient of the joined batch, relative."""
    share = slice(0, B // 2) if ranks.is_first else slice(B // 2, B)
    distances = {}
    for name, (module, whole) in cases().items():
        alone, parallel = copy.deepcopy(module), DistributedDataParallel(module)
        extra = {"randn": Replayed(share)} if name == "denoiser" else {}
        part = rows(whole, share)
        parallel(part, **extra)[0].backward()
        with torch.enable_grad():
            loss = alone_loss(alone, whole, name)
        loss.backward()
        pairs = zip(parallel.module.parameters(), alone.parameters(), strict=True)
        distances[name] = float(max((p.grad - q.grad).abs().max() / q.grad.abs().max() for p, q in pairs))
    everyone = ranks.gather(distances)
    if ranks.is_first:
        path.write_text(json.dumps(everyone))
    return 0


def update_a_moved_component(path: Path, ranks: Ranks) -> int:
    """Write a digest of each rank's weights after updates on different data, with a move of the module in between."""
    module, whole = cases()["denoiser"]
    part = rows(whole, slice(0, B // 2) if ranks.is_first else slice(B // 2, B))
    training = TrainingConfig(
        start_after_epochs=0,
        steps_first_epoch=0,
        steps_per_epoch=0,
        batch_size=B,
        lr_warmup_steps=1,
        max_grad_norm=None,
    )
    make_optimizer = OptimizerConfig(lr=1e-2, weight_decay=0.0).make
    # To PyTorch this is another device than the "cpu" that components rest on.
    elsewhere = replace(ranks, device=torch.device("cpu", 0))
    component = Component(
        "denoiser",
        module,
        lambda: (part, {}),
        training,
        make_optimizer,
        torch.float32,
        elsewhere,
        rests_in_memory=True,
    )
    for _ in range(2):
        # Stands in for a device: every parameter is replaced, which drops its gradient synchronisation.
        component.module.double().float()
        with component.at_work():
            component.update()
    weights = b"".join(value.numpy().tobytes() for value in component.module.state_dict().values())
    digests = ranks.gather(hashlib.sha256(weights).hexdigest())
    if ranks.is_first:
        path.write_text(json.dumps(digests))
    return 0


class Line(nn.Module):
    """A line through the origin, whose loss needs no communication."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss = (self.slope * x).pow(2).mean()
        return loss, {"loss": loss.detach()}


def accumulate_gradients(path: Path, ranks: Ranks) -> int:
    """Write what three accumulated batches per rank lead to: exchanges of gradients in an update, the slope, and
    how many wrappers that hold gradients remain once the module rests."""
    training = TrainingConfig(
        start_after_epochs=0,
        steps_first_epoch=0,
        steps_per_epoch=0,
        batch_size=2,
        lr_warmup_steps=1,
        max_grad_norm=None,
        grad_acc_steps=3,
    )
    numbers = iter(torch.arange(1.0, 100) + ranks.rank)
    component = Component(
        "line",
        Line(),
        lambda: (next(numbers)[None], {}),
        training,
        lambda module: torch.optim.SGD(module.parameters(), lr=1e-3),
        torch.float32,
        # To PyTorch this is another device than the "cpu" that components rest on.
        replace(ranks, device=torch.device("cpu", 0)),
        rests_in_memory=True,
    )
    with component.at_work():
        # The first update also agrees on buckets.
        component.update()
        with torch.profiler.profile() as profile:
            component.update()
    exchanges = sum("all_reduce" in event.name for event in profile.events())
    gc.collect()
    wrappers = sum(isinstance(each, DistributedDataParallel) for each in gc.get_objects())
    everyone = ranks.gather((exchanges, float(component.module.slope), wrappers))
    if ranks.is_first:
        path.write_text(json.dumps(everyone))
    return 0


def gather_tensors(path: Path, ranks: Ranks) -> int:
    """Write where the tensors that all ranks have on their devices are on rank 0, and their values."""
    own = torch.tensor([float(ranks.rank)], device=ranks.device)
    everyone = ranks.gather({"own": own, "more": [own + 1]})
    if ranks.is_first:
        tensors = [tensor for each in everyone for tensor in (each["own"], *each["more"])]
        path.write_text(json.dumps([(tensor.device.type, float(tensor)) for tensor in tensors]))
    return 0


def fail_alone(path: Path, ranks: Ranks) -> int:
    """Let the first rank fail in work that it does alone; the other one writes the code that it leaves with."""

    def work() -> None:
        raise UserError("The disk is full.")

    try:
        Stops(ranks, minutes=60, checkpoint=lambda: None).alone(work)
    except SystemExit as leaving:
        path.write_text(str(leaving.code))
        raise
    return 0


def alone_loss(module: nn.Module, batch: Any, name: str) -> Tensor:
    """The loss of the joined batch, as one process without a group would compute it."""
    import torch.distributed as dist

    initialized, dist.is_initialized = dist.is_initialized, lambda: False
    try:
        return module(batch, **({"randn": Replayed(slice(None))} if name == "denoiser" else {}))[0]
    finally:
        dist.is_initialized = initialized


def cases() -> dict[str, tuple[nn.Module, Any]]:
    """Networks with all parameters moved off zero, and joined batches whose halves are padded differently."""
    torch.manual_seed(0)
    modules = {
        "denoiser": Denoiser(DenoiserConfig(InnerModelConfig(3, 2, 16, (1,), (8,), (0,), 4), 0.5, 0.3)),
        "rew_end_model": RewEndModel(RewEndModelConfig(8, 3, SIZE, 8, (1,), (8,), (0,), 4)),
        "actor_critic": ActorCritic(ActorCriticConfig(8, 3, SIZE, (8,), (1,), 4)),
    }
    for module in modules.values():
        for parameter in module.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    t = 5
    flags, mask = torch.zeros(B, t, dtype=torch.uint8), torch.ones(B, t, dtype=torch.bool)
    mask[0, 2:] = mask[1, 3:] = mask[4, :1] = False
    frames = torch.randint(256, (B, t, 3, SIZE, SIZE), dtype=torch.uint8)
    batch = Batch(frames, torch.randint(4, (B, t)), torch.randn(B, t), flags, flags, mask, frames[:, 0])
    memory = (torch.randn(B, 8), torch.randn(B, 8))
    rollout = Rollout(
        frames.transpose(0, 1),
        torch.randint(4, (t, B)),
        torch.randn(t, B),
        memory,
        torch.rand(t, B) < 0.3,
        torch.randint(256, (t, B, 2, 3, SIZE, SIZE), dtype=torch.uint8),
        torch.rand(t, B, 2) < 0.8,
    )
    return {name: (module, rollout if name == "actor_critic" else batch) for name, module in modules.items()}


def rows(whole: Any, share: slice) -> Any:
    """A share of a joined batch."""
    if isinstance(whole, Batch):
        return replace(whole, **{name: value[share] for name, value in vars(whole).items() if torch.is_tensor(value)})
    columns = {name: value[:, share] for name, value in vars(whole).items() if name != "hx_cx"}
    return Rollout(**columns, hx_cx=tuple(memory[share] for memory in whole.hx_cx))


def train(folder: Path, ranks: Ranks) -> int:
    """Train, and write a digest of each rank's weights, or leave as an interrupted run does."""
    config = RunFolder.open(folder).load_config()
    trainer = Trainer(*read_settings(config), RunFolder(folder), ranks, OmegaConf.to_container(config))
    try:
        trainer.run()
    except Interrupted as interrupt:
        return 128 + interrupt.signal_number
    weights = b"".join(value.numpy().tobytes() for value in trainer.algorithm.agent.state_dict().values())
    digests = ranks.gather(hashlib.sha256(weights).hexdigest())
    lengths = ranks.gather(trainer.data.train.replay.episode_lengths.tolist())
    if ranks.is_first:
        (folder / "ranks.json").write_text(json.dumps({"digests": digests, "lengths": lengths}))
    return 0


def fail_on_first(ranks: Ranks) -> int:
    """An error on the first rank, because of which the other one leaves without a word."""
    if ranks.is_first:
        raise ValueError("the first rank fails")
    raise SystemExit(1)
