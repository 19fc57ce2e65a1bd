"""DreamerV3 learns: a policy trained in latent imagination gets better, and its world model draws the game rightly."""

import time

import pytest
import torch
from torch import Tensor

import pixel_game
import runs
from algorithms import read_settings
from algorithms.base import Surroundings
from algorithms.dreamer import DEFINITION
from algorithms.dreamer.algorithm import Dreamer
from data import Actions, Batch, Dataset, Spaces
from run.folder import RunFolder
from run.log import read_metrics
from run.ranks import Ranks

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
SHARE_OF_THE_WAY, FIDELITY, NUM_FRAMES = 0.9, 0.95, 200
"""Four seeds reached 0.939 to 0.970 of the way from random actions to the best possible return (docs/dreamer.md).

Their mean is 0.957 and their standard deviation 0.014: a run that fails is four standard deviations off. Four seeds do
not tell how often that happens; the seed of this test is fixed.
"""
GREY_LEVELS = 40
"""How far the mean colour of a cell may be off; those of the game's cells are further apart."""


@pytest.fixture(scope="module")
def dreamt(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of the ordinary command line with the settings of `config/scale/tiny/dreamer.yaml`."""
    folder = tmp_path_factory.mktemp("learning") / "run"
    game = ["algorithm=dreamer", "env=gym", "env.train.id=pixel_game:Chase-v0", "+experiment=tiny"]
    shorter = ["evaluation.every=10", "evaluation.untrained=false"]
    started = time.monotonic()
    command = runs.command(*game, *shorter, "common.device=cpu", "common.seed=0", f"hydra.run.dir={folder}")
    # Its operations are small: on a busy machine, two threads mostly wait for each other.
    result = runs.run([*command, "common.threads=1"], timeout=3600)
    assert result.returncode == 0, result.stderr
    print(f"trained in {time.monotonic() - started:.0f} s\n{result.stdout}")
    return RunFolder.open(folder)


def test_the_policy_gets_better(dreamt: RunFolder) -> None:
    """Over 100 test episodes. The best mean return is exact; the random policy's is known to about 0.02."""
    final = [line for line in read_metrics(dreamt.metrics) if "collection/final/return_mean" in line][-1]
    assert final["collection/final/num_episodes"] == 100
    random, best = pixel_game.mean_random_return(2000, seed=0), pixel_game.mean_best_return()
    share = (final["collection/final/return_mean"] - random) / (best - random)
    print(f"random {random:.2f}, learnt {final['collection/final/return_mean']:.2f}, best {best:.2f}: {share:.3f}")
    assert share >= SHARE_OF_THE_WAY


@torch.no_grad()
def test_reconstructions_and_imagined_frames_are_right(dreamt: RunFolder) -> None:
    """Reconstructions of episodes of the last policy, and ten imagined steps under their actions."""
    dreamer, horizon = load(dreamt), 10
    world = dreamer.world(1)
    n = world.num_context_steps
    episodes = [each for each in Dataset.open(dreamt.dataset("test")).episodes() if len(each) >= n + horizon]
    obs, act = [torch.stack([getattr(each, name)[: n + horizon] for each in episodes]) for name in ("obs", "act")]
    nothing = torch.zeros(act.shape)
    batch = Batch(obs, act, nothing, nothing, nothing, torch.ones(act.shape, dtype=torch.bool), obs[:, 0])
    torch.manual_seed(0)
    steps = world.imagine(batch.between(0, n), act[:, n : n + horizon - 1])
    imagined = share_right(steps.obs, obs[:, n:])
    rssm = dreamer.agent.rssm
    is_first = torch.zeros(act.shape, dtype=torch.bool)
    is_first[:, 0] = True
    state = rssm.observe(rssm.initial(len(act)), dreamer.agent.encoder(obs), act.roll(1, 1), is_first).state
    images = dreamer.agent.decoder(state.deter, state.stoch)
    reconstructed = share_right((255 * images).round(), obs)
    print(f"{len(act)} episodes: reconstructed {reconstructed:.3f}, imagined {imagined:.3f}")
    assert len(act) * horizon >= NUM_FRAMES
    assert reconstructed >= FIDELITY
    assert imagined >= FIDELITY


def load(dreamt: RunFolder) -> Dreamer:
    _, config = read_settings(dreamt.load_config())
    spaces = Spaces((3, pixel_game.FRAME, pixel_game.FRAME), Actions("numbered", len(pixel_game.MOVES)))
    around = Surroundings(spaces, Ranks(0, 1, CPU), torch.float32, draw_starts=lambda *_: None)
    dreamer = DEFINITION.make(config, around)
    dreamer.agent.load(sorted(dreamt.agent_versions.iterdir())[-1])
    return dreamer


def share_right(ours: Tensor, theirs: Tensor) -> float:
    """The share of frames (…, c, h, w) in which every cell has the right colour."""
    size, off = pixel_game.CELL, ours.float() - theirs.float()
    cells = off.unflatten(-1, (-1, size)).unflatten(-3, (-1, size)).mean(dim=(-1, -3))  # … c rows columns
    return float((cells.abs() < GREY_LEVELS).flatten(-3).all(dim=-1).float().mean())
