"""Optimizers and their settings."""

from dataclasses import dataclass
from typing import Annotated, Any

from torch import nn
from torch.optim import AdamW, Optimizer

from ranges import Above, Positive, Weight


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW. Weight decay applies to the weights of linear, convolutional and recurrent layers only."""

    lr: Positive
    weight_decay: Weight
    eps: Annotated[float, Above(0, 1)] = 1e-8

    def make(self, module: nn.Module) -> Optimizer:
        return AdamW(decay_groups(module, self.weight_decay), lr=self.lr, eps=self.eps, fused=True)


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two parameter groups: weights of linear, convolutional and recurrent layers, with weight decay; all others."""
    decayed = {
        id(parameter)
        for layer in module.modules()
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.LSTM | nn.LSTMCell)
        for name, parameter in layer.named_parameters(recurse=False)
        if name.startswith("weight")
    }
    parameters = list(module.parameters())
    return [
        {"params": [p for p in parameters if id(p) in decayed], "weight_decay": weight_decay},
        {"params": [p for p in parameters if id(p) not in decayed], "weight_decay": 0.0},
    ]
