"""Learners and parts of them of which FSDP2 sees little, or sees different things on every rank."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import shared_batches
import torch
from torch import Tensor, nn

from flava_plugin.types import Batch, Features

WIDTH = 8


class Lazy:
    """States that are normalised when somebody reads them, of a class that no one knows."""

    __slots__ = ("last", "norm")

    def __init__(self, last: Tensor, norm: nn.Module) -> None:
        self.last = last
        self.norm = norm

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self[0], self[1]))

    def __getitem__(self, number: int) -> Tensor:
        return self.norm(self.last) if number else self.last


class Step(nn.Module):
    """A layer that takes and returns what pytree does not see into."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.idle = nn.Linear(WIDTH, 2)

    def forward(self, states: Lazy) -> Lazy:
        return Lazy(states.last + self.linear(states.last).tanh(), states.norm)


class OpaqueEncoder(nn.Module):
    width = WIDTH
    num_patches = shared_batches.PATCHES

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, WIDTH, 4, 4)
        self.steps = nn.ModuleList(Step() for _ in range(3))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, image: Tensor, patch_mask: Tensor | None = None) -> Lazy:
        patches = self.embed(image).flatten(2).transpose(1, 2)
        states = Lazy(torch.cat([patches.mean(1, keepdim=True), patches], dim=1), self.norm)
        for step in self.steps:
            states = step(states)
        return states


class ClosureHead(nn.Module):
    """Returns a function, which computes with parameters when the loss calls it."""

    needs = frozenset({"image"})

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, features: Features, batch: Batch) -> Callable[[], Tensor]:
        states = features.image
        assert states is not None
        return lambda: self.linear(states)


def squares(prediction: Callable[[], Tensor], batch: Batch) -> Tensor:
    return prediction().square().sum((1, 2))


class Outputs:
    """Losses in a class of one's own, as torchmultimodal returns them."""

    def __init__(self, loss: Tensor) -> None:
        self.loss = loss

    def __getitem__(self, name: str) -> Tensor:
        return self.loss


class Sealed(nn.Module):
    """A learner that is one unit and returns what pytree does not see into."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(192, 3)

    def forward(self, batch: Batch) -> Outputs:
        assert batch.image is not None
        return Outputs(self.linear(batch.image.flatten(1)).square().sum())

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": torch.tensor(len(batch))}

    def is_global(self, objective: str) -> bool:
        return False


class Skipping(nn.Module):
    """Leaves out another layer on every rank, as stochastic depth would."""

    def __init__(self, skipped: int) -> None:
        super().__init__()
        self.skipped = skipped
        self.layers = nn.ModuleList(nn.Linear(192, 192) for _ in range(3))

    def forward(self, flat: Tensor) -> Tensor:
        for number, layer in enumerate(self.layers):
            flat = flat if number == self.skipped else layer(flat)
        return flat


class Wrapped(Sealed):
    """A learner around a foreign encoder."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({"encoder": encoder})

    def forward(self, batch: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        assert batch.image is not None
        return {"loss": self.backbone["encoder"](batch.image.flatten(1)).square().sum()}


class OnlyLayers(Wrapped):
    """Its encoder has no parameters but its layers', and the loss needs it for positives only."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(Skipping(skipped=-1))

    def forward(self, batch: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        assert batch.image is not None and batch.positives is not None
        flat = batch.image.flatten(1)
        states = self.backbone["encoder"](flat)
        loss = self.linear(flat).square().sum()
        return {"loss": loss + states[batch.positives].sum() if batch.positives.any() else loss}


class Hoarding(Wrapped):
    """Calls an encoder once more, first, and out of its own sight."""

    def __init__(self) -> None:
        super().__init__(Hiding(192, 3))
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, batch: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        assert batch.image is not None
        flat, encoder = batch.image.flatten(1), self.backbone["encoder"]
        hidden, shown = encoder(flat, hide=True), encoder(self.scale * flat)
        return {"loss": hidden().square().sum() + shown.square().sum()}


class Hiding(nn.Linear):
    def forward(self, flat: Tensor, hide: bool = False) -> Any:  # type: ignore[override]
        made = super().forward(flat)
        return (lambda: made) if hide else made
