"""DreamerV3's compiled parts: one graph each, whatever the number of rows and steps, and the plain way's numbers."""

import copy
import warnings

import pytest
import torch
from torch import Tensor, fx

from algorithms.dreamer.agent import DreamerAgent
from data import Actions, Spaces
from models.dreamer import Learner, LossConfig, NetworkConfig, Rows

BATCH, LENGTH, HORIZON, NUM_ACTIONS = 2, 5, 4, 3


class Counter:
    """Keeps the number of operations of each graph that it is given, and changes nothing."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, graph: fx.GraphModule, inputs: list[Tensor]) -> fx.GraphModule:
        self.sizes.append(len(graph.graph.nodes))
        return graph


@pytest.fixture
def learner() -> Learner:
    torch.manual_seed(0)
    torch.compiler.reset()
    config = NetworkConfig(deter=16, hidden=8, classes=4, units=8, depth=2, stoch=4)
    agent = DreamerAgent(config, Spaces((3, 16, 16), Actions("numbered", NUM_ACTIONS)))
    for each in agent.parameters():
        each.data += 0.1 * torch.randn_like(each)
    return Learner(agent, LossConfig(horizon=HORIZON), config.bins)


def make_rows() -> Rows:
    torch.manual_seed(1)
    shape = BATCH, LENGTH + 1
    flags = [torch.zeros(shape, dtype=torch.bool) for _ in range(3)]
    flags[0][0, 2] = flags[1][0, 1] = True
    obs, act = torch.randint(256, (*shape, 3, 16, 16), dtype=torch.uint8), torch.randint(NUM_ACTIONS, shape)
    return Rows(obs, act, torch.randn(shape), *flags, torch.randn(BATCH, 16), torch.randint(4, (BATCH, 4)))


def results(learner: Learner) -> dict[str, Tensor]:
    """What an update uses: the loss, the states that are written back, and every gradient."""
    rows = make_rows()
    torch.manual_seed(2)
    loss, _, deter, index = learner(rows)
    loss.backward()
    gradients = {name: each.grad for name, each in learner.named_parameters() if each.grad is not None}
    return {"loss": loss.detach(), "deter": deter, "index": index, **gradients}


def test_parts_are_one_graph_each(learner: Learner) -> None:
    """A step of following rows is two: the first state has no gradient. Names of weights stay as they are."""
    counter, plain, names = Counter(), copy.deepcopy(learner), list(learner.state_dict())
    for each in learner.networks_to_compile:
        each.compile(backend=counter, dynamic=False, fullgraph=True)
    ours, theirs = results(learner), results(plain)
    assert len(counter.sizes) == 5
    assert list(learner.state_dict()) == names
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_compiled_updates_agree_with_plain_ones(learner: Learner) -> None:
    """In float32, by the compiler of training."""
    plain = copy.deepcopy(learner)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for each in learner.networks_to_compile:
            each.compile(dynamic=False)
        ours, theirs = results(learner), results(plain)
    assert torch.equal(ours["index"], theirs["index"])
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=1e-5 * float(value.abs().max()) + 1e-7, rtol=1e-4)
