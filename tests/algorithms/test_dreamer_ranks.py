"""DreamerV3 on two processes: gradients and the range of returns are those of the joined batch."""

import functools
from pathlib import Path

import pytest
import torch

from files import load_tensors
from run.ranks import spawn_ranks
from two_dreamers import gradients, write_gradients


@pytest.mark.slow
def test_two_ranks_learn_from_the_joined_batch(tmp_path: Path) -> None:
    assert spawn_ranks([torch.device("cpu")] * 2, functools.partial(write_gradients, tmp_path)) == 0
    joined = gradients(0, 1)
    assert joined["high"] > joined["low"]
    for rank in range(2):
        ours = load_tensors(tmp_path / f"{rank}.pt")
        assert ours.keys() == joined.keys()
        for name, theirs in joined.items():
            # Sums in another order differ most where large terms cancel.
            tolerance = 1e-4 if name in ("low", "high") else 1e-2
            torch.testing.assert_close(ours[name], theirs, atol=tolerance * float(theirs.abs().max()), rtol=0)
