"""DreamerV3 on two processes: gradients and the range of returns are those of the joined batch."""

import functools
import json
from pathlib import Path

import pytest
import torch

import runs
from files import load_tensors
from run.folder import RunFolder
from run.ranks import spawn_ranks
from small_dreamer import SMALL
from training_helpers import compose
from two_dreamers import gradients, write_gradients
from two_ranks import train

pytestmark = pytest.mark.slow
TWO_CPUS = [torch.device("cpu")] * 2


def test_two_ranks_learn_from_the_joined_batch(tmp_path: Path) -> None:
    assert spawn_ranks(TWO_CPUS, functools.partial(write_gradients, tmp_path)) == 0
    joined = gradients(0, 1)
    assert joined["high"] > joined["low"]
    for rank in range(2):
        ours = load_tensors(tmp_path / f"{rank}.pt")
        assert ours.keys() == joined.keys()
        for name, theirs in joined.items():
            # Sums in another order differ most where large terms cancel.
            tolerance = 1e-4 if name in ("low", "high") else 1e-2
            torch.testing.assert_close(ours[name], theirs, atol=tolerance * float(theirs.abs().max()), rtol=0)


def test_two_ranks_train_the_same_weights(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", compose(game=runs.CHASE, small=SMALL)).path
    assert spawn_ranks(TWO_CPUS, functools.partial(train, folder)) == 0
    ranks = json.loads((folder / "ranks.json").read_text())
    assert len(set(ranks["digests"])) == 1
    assert ranks["lengths"][0] == ranks["lengths"][1]
    assert sum(ranks["lengths"][0]) == 110
