"""A limit on the size of networks, before memory is taken for them."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from algorithms.base import Definition, Surroundings
from errors import UserError
from run.ranks import Ranks

LARGEST_AGENT = 5_000_000_000
"""Parameters of the largest agent that is made: 20 GB in float32. DIAMOND's agent for CS:GO has 0.4 billion."""
MOST_TENSORS = 100_000


def check_size(definition: Definition, config: Any, around: Surroundings) -> None:
    """Raise UserError if the settings ask for more parameters than `LARGEST_AGENT`, or for sizes that do not exist.

    The networks are made on PyTorch's meta device, where tensors have shapes but no memory.
    """
    meta = torch.device("meta")
    counted = _Count()
    hook = register_module_parameter_registration_hook(counted)
    try:
        with meta:
            definition.make(config, replace(around, ranks=Ranks(0, 1, meta), experience=None))
    except NotImplementedError:
        # An algorithm that computes with its weights when it is made cannot be measured in this way.
        return
    except (RuntimeError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"The networks of these settings cannot be made: {reason}") from None
    finally:
        hook.remove()


class _Count:
    """Counts the parameters of all modules that are made."""

    def __init__(self) -> None:
        self._parameters = 0
        self._tensors = 0

    def __call__(self, module: nn.Module, name: str, parameter: Tensor | None) -> None:
        if parameter is None:
            return
        self._parameters += parameter.numel()
        self._tensors += 1
        if self._parameters > LARGEST_AGENT:
            raise UserError(
                f"These settings ask for networks of {self._parameters:,} parameters or more, and {LARGEST_AGENT:,} is "
                f"the limit: {type(module).__name__}.{name} alone has {parameter.numel():,}. Reduce the channels."
            )
        if self._tensors > MOST_TENSORS:
            raise UserError(f"These settings ask for networks of more than {MOST_TENSORS:,} layers. Reduce the depths.")
