"""DIAMOND (Alonso et al. 2024): a diffusion model of the world, and a policy that learns in its imagination.

Without rewards and policy it is the two-stage system of CS:GO, or a single denoiser, trained on recordings.
"""

from algorithms.base import Definition
from algorithms.diamond.agent import count_actions
from algorithms.diamond.algorithm import make_diamond
from algorithms.diamond.config import DiamondConfig

DEFINITION = Definition(
    config=DiamondConfig,
    make=make_diamond,
    count_actions=count_actions,
    epoch_line={
        "return": "collection/test/return_mean",
        "denoiser loss": "denoiser/train/loss_denoising",
        "upsampler loss": "upsampler/train/loss_denoising",
        "reward and end loss": "rew_end_model/train/loss_total",
        "policy entropy": "actor_critic/train/entropy",
    },
    summary={
        "Denoiser test loss": "denoiser/test/loss_denoising",
        "Upsampler test loss": "upsampler/test/loss_denoising",
        "Reward and end model test loss": "rew_end_model/test/loss_total",
    },
)
