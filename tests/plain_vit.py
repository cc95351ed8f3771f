"""A ViT as timm and DINO write it: fused queries, keys and values, norms in front, [CLS] first."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812, the name every torch user expects

from flava_plugin import registry
from flava_plugin.model.weights_vit import read_vit

WIDTH, HEADS, LAYERS, SIZE, PATCH = 24, 3, 3, 32, 8
PLACES = 1 + (SIZE // PATCH) ** 2


class Gamma(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class PlainBlock(nn.Module):
    def __init__(self, width: int, heads: int, eps: float, bias: bool, scaled: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.attn, self.mlp = nn.Module(), nn.Module()
        self.attn.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.attn.proj = nn.Linear(width, width)
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.ls1, self.ls2 = (Gamma(width) if scaled else nn.Identity() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        rows, places, width = x.shape
        qkv: Tensor = cast(Any, self.attn).qkv(self.norm1(x))
        q, k, v = qkv.reshape(rows, places, 3, self.heads, width // self.heads).unbind(2)
        scores = torch.einsum("blhd,bmhd->bhlm", q, k) * (width // self.heads) ** -0.5
        mixed = torch.einsum("bhlm,bmhd->blhd", scores.softmax(-1), v).flatten(2)
        x = x + self.ls1(cast(Any, self.attn).proj(mixed))
        mlp = cast(Any, self.mlp)
        return x + cast(Tensor, self.ls2(mlp.fc2(F.gelu(mlp.fc1(self.norm2(x))))))


class PlainVit(nn.Module):
    """Weights are drawn from ``seed`` and away from 0 and 1, or tokens and norms prove nothing."""

    def __init__(
        self,
        width: int = WIDTH,
        heads: int = HEADS,
        layers: int = LAYERS,
        *,
        eps: float = 1e-6,
        bias: bool = True,
        scaled: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, PATCH, PATCH)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, PLACES, width))
        self.blocks = nn.ModuleList(
            PlainBlock(width, heads, eps, bias, scaled) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width, eps=eps)
        self.head = nn.Linear(width, 10)
        generator = torch.Generator().manual_seed(seed)
        for name, value in self.named_parameters():
            start = 1.0 if "norm" in name and "weight" in name else 0.0
            nn.init.constant_(value, start)
            value.data += 0.2 * torch.randn(value.shape, generator=generator)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The last block's output, and the same after the final norm; (B, 1 + P, D)."""
        patches = cast(Any, self.patch_embed).proj(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(image), -1, -1), patches], dim=1)
        x = x + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return x, self.norm(x)


def read_into_ours(path: Path) -> Any:
    """Our image encoder with the weights of a file, in evaluation."""
    encoder: Any = registry.encoders.build(
        "flava_image",
        layers=LAYERS,
        width=WIDTH,
        heads=HEADS,
        image_size=SIZE,
        patch_size=PATCH,
    )
    fresh, unknown = encoder.load_state_dict(read_vit(path).tensors, strict=False)
    assert not unknown
    assert set(fresh) <= {"embeddings.mask_token", "pooler.dense.weight", "pooler.dense.bias"}
    return encoder.eval()


def images() -> Tensor:
    return torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
