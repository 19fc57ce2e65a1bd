"""PPO, Double DQN and discrete SAC learn the pixel game from few real steps, without a model of it."""

import time
from pathlib import Path

import pytest

import pixel_game
import runs
from data import Dataset
from run.folder import RunFolder
from run.log import read_metrics

pytestmark = pytest.mark.slow
LIMIT_OF_STEPS = {"ppo": 10240, "ddqn": 4000, "sac": 3000}
SHARE_OF_THE_WAY = {"ppo": 0.75, "ddqn": 0.75, "sac": 0.75}
"""Random play returns 1.18, and the best 28.18. With the seeds 0, 1 and 2, PPO reached 26.47, 26.28 and 24.94, which is
0.94, 0.93 and 0.88 of the way; Double DQN 27.42, 25.13 and 27.05 (0.97, 0.89, 0.96); SAC 26.64,
26.25 and 26.45 (0.94, 0.93, 0.94). The threshold is more than three standard deviations below each mean."""


@pytest.mark.parametrize("name", LIMIT_OF_STEPS)
def test_the_policy_gets_much_better(tmp_path: Path, name: str) -> None:
    """Over 100 test episodes, with the settings of `config/scale/tiny`.

    The best mean return is exact; the random policy's is known to about 0.02.
    """
    game = [f"algorithm={name}", "env=gym", "env.train.id=pixel_game:Chase-v0", "+experiment=tiny"]
    folder, started = tmp_path / "run", time.monotonic()
    command = runs.command(*game, "common.device=cpu", "common.seed=0", f"hydra.run.dir={folder}")
    # Its operations are small: on a busy machine, two threads mostly wait for each other.
    result = runs.run([*command, "common.threads=1"], timeout=2400)
    assert result.returncode == 0, result.stderr
    run = RunFolder.open(folder)
    assert Dataset.open(run.dataset("train")).num_steps <= LIMIT_OF_STEPS[name]
    final = [line for line in read_metrics(run.metrics) if "collection/final/return_mean" in line][-1]
    assert final["collection/final/num_episodes"] == 100
    random, best = pixel_game.mean_random_return(2000, seed=0), pixel_game.mean_best_return()
    share = (final["collection/final/return_mean"] - random) / (best - random)
    print(f"random {random:.2f}, learnt {final['collection/final/return_mean']:.2f}, best {best:.2f}: {share:.3f}")
    print(f"trained in {time.monotonic() - started:.0f} s")
    assert share >= SHARE_OF_THE_WAY[name]
