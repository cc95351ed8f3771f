"""A learner of which nothing is ours, with everything that makes flat units difficult."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flava_plugin.types import Batch

WIDTH = 6


class Box:
    """An output that nobody can look into."""

    __slots__ = ("inside",)

    def __init__(self, inside: Tensor) -> None:
        self.inside = inside


class OpaqueLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(WIDTH, WIDTH)

    def forward(self, box: Box) -> Box:
        return Box(box.inside + torch.tanh(self.mix(box.inside)))


class Encoder(nn.Module):
    """Layers in lists, in a sequence, and one layer that is used three times."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(192, WIDTH)
        self.embed.weight.requires_grad_(False)
        self.opaque = nn.ModuleList(OpaqueLayer() for _ in range(2))
        self.same = nn.ModuleList([nn.Linear(WIDTH, WIDTH)] * 3)
        self.row = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH))
        self.norm = nn.LayerNorm(WIDTH)
        self.register_buffer("shift", torch.full((WIDTH,), 0.1, dtype=torch.float64))

    def forward(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """States, and their norm, which no loss reads."""
        box = Box(self.embed(flat) + self.shift.float())
        for layer in self.opaque:
            box = layer(box)
        states = box.inside
        for layer in self.same:
            states = torch.tanh(layer(states))
        states = states + self.row(states)
        return states, self.norm(states)


class TiedHead(nn.Module):
    """Uses one matrix twice, under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(WIDTH, WIDTH)
        self.down = nn.Linear(WIDTH, WIDTH)
        self.down.weight = self.up.weight

    def forward(self, states: Tensor) -> Tensor:
        return self.down(torch.tanh(self.up(states)))


class Foreign(nn.Module):
    """Its loss depends on encoder and head in rows of one kind only, which few ranks have.

    Args:
        seed: Of the first weights.
        everywhere: Whether it depends on them in every row.
    """

    def __init__(self, seed: int, *, everywhere: bool = True) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.everywhere = everywhere
        self.backbone = nn.ModuleDict({"encoder": Encoder()})
        self.heads = nn.ModuleDict({"loss": TiedHead()})
        self.base = nn.Linear(192, 1)
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.image is not None and batch.codes is not None
        flat = batch.image.flatten(1)
        states = self.heads["loss"](self.backbone["encoder"](flat)[0])
        chosen = (batch.codes[:, 0] == 4) | self.everywhere
        loss = (self.scale.exp() * self.base(flat)).square().sum()
        return {"loss": loss + states[chosen].square().sum() if chosen.any() else loss}

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": torch.tensor(len(batch))}

    def is_global(self, objective: str) -> bool:
        return False
