"""The two networks of the single-file Breakout with a DDPM, made from this project's blocks."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.blocks import conv1x1, conv3x3
from models.diffusion.conditional_unet import embed_step

WIDTH = 64


class Block(nn.Module):
    """As `ResidualBlock` of `ConditionalUNet`, with eight groups and no dropout."""

    def __init__(self, before: int, width: int, cond: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(before, width)
        self.conv2 = conv3x3(width, width)
        self.time_mlp = nn.Sequential(nn.SiLU(), nn.Linear(cond, width))
        self.norm1 = nn.GroupNorm(8, before)
        self.norm2 = nn.GroupNorm(8, width)
        self.residual_conv = conv1x1(before, width) if before != width else nn.Identity()

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.time_mlp(cond)[:, :, None, None]
        return self.conv2(F.silu(self.norm2(h))) + self.residual_conv(x)


class WorldModel(nn.Module):
    """The noise in the whole next stack of frames, from the previous stack, the action and the step."""

    def __init__(self, cond: int, channels: int, num_actions: int) -> None:
        super().__init__()
        width, self.cond = WIDTH, cond
        self.time_mlp = nn.Sequential(nn.Identity(), nn.Linear(cond, 4 * cond), nn.SiLU(), nn.Linear(4 * cond, cond))
        self.action_emb = nn.Embedding(num_actions, cond)
        self.enc_conv1 = conv3x3(2 * channels, width)
        for level in (1, 2, 3):
            before, after = width * 2 ** (level - 1), width * 2**level
            self.add_module(f"enc_block{level}", Block(before, after, cond))
            self.add_module(f"enc_down{level}", conv3x3(after, after, stride=2))
        self.mid_block1, self.mid_block2 = (Block(8 * width, 8 * width, cond) for _ in range(2))
        for level in (3, 2, 1):
            wide = width * 2**level
            self.add_module(f"dec_up{level}", nn.ConvTranspose2d(wide, wide, 4, stride=2, padding=1))
            self.add_module(f"dec_block{level}", Block(2 * wide, wide // 2, cond))
        self.out_conv = conv3x3(width, channels)

    def forward(self, noisy: Tensor, previous: Tensor, act: Tensor, t: Tensor) -> Tensor:
        cond = self.time_mlp(embed_step(t, self.cond)) + self.action_emb(act)
        x, skips = self.enc_conv1(torch.cat((previous, noisy), dim=1)), []
        for level in (1, 2, 3):
            x = self.get_submodule(f"enc_block{level}")(x, cond)
            skips.append(x)
            x = self.get_submodule(f"enc_down{level}")(x)
        x = self.mid_block2(self.mid_block1(x, cond), cond)
        for level in (3, 2, 1):
            x = torch.cat((self.get_submodule(f"dec_up{level}")(x), skips.pop()), dim=1)
            x = self.get_submodule(f"dec_block{level}")(x, cond)
        return self.out_conv(x)


class ActorCritic(nn.Module):
    """Logits and value of a stack of 64×64 frames."""

    def __init__(self, hidden: int, channels: int, num_actions: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in ((channels, 64), (64, 128), (128, 256)):
            layers += [nn.Conv2d(before, width, 4, stride=2, padding=1), nn.ReLU()]
        self.encoder = nn.Sequential(*layers, nn.Flatten(), nn.Linear(256 * 8 * 8, hidden), nn.ReLU())
        self.actor = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, num_actions))
        self.critic = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.encoder(x)
        return self.actor(hidden), self.critic(hidden)


def fill_by_recipe(network: nn.Module, names: list[str]) -> None:
    """Weights that follow from their places: `names` are the parameters in the order that counts."""
    parameters = dict(network.named_parameters())
    assert set(names) == set(parameters)
    for k, name in enumerate(names):
        parameter = parameters[name]
        i = torch.arange(parameter.numel(), dtype=torch.int64)
        u = ((2654435761 * i + 40503 * k) % 2**32).double() / 2**32 - 0.5
        if parameter.ndim > 1:
            u = u * (12 / (parameter.numel() / len(parameter))) ** 0.5
        else:
            u = 0.4 * u + (1 if ".norm" in name and name.endswith("weight") else 0)
        parameter.data = u.float().reshape(parameter.shape)
