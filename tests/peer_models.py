"""torchmultimodal's, Hugging Face's and our FLAVA at the same sizes, and batches that fit them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import pytest
import torch
from tiny_flava import MASK_ID, objective_sections, registered
from torch import Tensor, nn
from torchmultimodal.models.flava.model import FLAVAForPreTraining, flava_model
from torchmultimodal.modules.losses.flava import FLAVAPretrainingLoss

from flava_plugin.model.learner import Learner, build_learner
from flava_plugin.model.weights import HEAD_NORM_EPS, PADDING
from flava_plugin.sections import ModelSection
from flava_plugin.types import IGNORE, Batch

Peer = Literal["torchmultimodal", "hugging_face"]
PEERS: tuple[Peer, ...] = ("torchmultimodal", "hugging_face")


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Of a FLAVA whose three encoders are equally wide; ``std`` is the spread of its weights."""

    layers: tuple[int, int, int]
    width: int
    heads: int
    image: int
    patch: int
    words: int
    codes: int
    positions: int
    length: int
    std: float


TINY = Sizes(
    (2, 2, 1), 32, 4, image=32, patch=8, words=50, codes=11, positions=24, length=12, std=0.1
)
BASE = Sizes(
    (12, 12, 6), 768, 12, image=224, patch=16, words=30_522, codes=8_192, positions=512, length=77,
    std=0.02,
)  # fmt: skip


class GivenCodes(nn.Module):
    """A codebook that is given codes instead of images, so that all three learn the same ones."""

    num_codes = 0

    def forward(self, codes: Tensor) -> Tensor:
        return codes.clone()  # torchmultimodal writes into what it gets


def torchmultimodal(sizes: Sizes = TINY, seed: int = 0, **loss: Any) -> FLAVAForPreTraining:
    """Random, and nowhere at zero or one: a bias or token left out would show."""
    with torch.device("meta"):
        model = flava_model(
            **encoder_sizes(sizes),
            image_size=sizes.image,
            patch_size=sizes.patch,
            vocab_size=sizes.words,
            max_position_embeddings=sizes.positions,
            text_and_image_proj_size=sizes.width,
        )
        losses = FLAVAPretrainingLoss(
            hidden_size=sizes.width,
            text_vocab_size=sizes.words,
            image_vocab_size=sizes.codes,
            **loss,
        )
        whole = FLAVAForPreTraining(model, GivenCodes(), losses)
    whole.to_empty(device="cpu")
    for part in whole.modules():  # one parameter under two names, which to_empty makes two
        if isinstance(getattr(part, "decoder", None), nn.Linear):
            part.decoder.bias = part.bias
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in whole.named_parameters():
            parameter.normal_(std=sizes.std, generator=generator)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1.0)
        whole.loss.contrastive_loss.logit_scale.fill_(math.log(1 / 0.07))
    return whole


def encoder_sizes(sizes: Sizes) -> dict[str, int]:
    """What ``flava_model`` calls them."""
    named: dict[str, int] = {}
    for part, layers in zip(("image", "text", "multimodal"), sizes.layers, strict=True):
        named |= {
            f"{part}_hidden_size": sizes.width,
            f"{part}_num_attention_heads": sizes.heads,
            f"{part}_num_hidden_layers": layers,
            f"{part}_intermediate_size": 4 * sizes.width,
        }
    return named


def hugging_face(sizes: Sizes = TINY) -> Any:
    """With whatever weights; its own codebook left out."""
    transformers = pytest.importorskip("transformers", reason="compares with Hugging Face's FLAVA")
    encoders = [
        {
            "hidden_size": sizes.width,
            "num_attention_heads": sizes.heads,
            "num_hidden_layers": layers,
            "intermediate_size": 4 * sizes.width,
        }
        for layers in sizes.layers
    ]
    image = {"image_size": sizes.image, "patch_size": sizes.patch, "vocab_size": sizes.codes}
    text = {"vocab_size": sizes.words, "max_position_embeddings": sizes.positions}
    config = transformers.FlavaConfig(
        image_config=encoders[0] | image,
        text_config=encoders[1] | text,
        multimodal_config=encoders[2],
        hidden_size=sizes.width,
        projection_dim=sizes.width,
        init_codebook=False,
    )
    return transformers.FlavaForPreTraining(config)


def learner(
    state: Mapping[str, Tensor], sizes: Sizes, peer: Peer, *, share: bool = False, **model: Any
) -> Learner:
    """Ours with given weights and one peer's semantics; ``share``: the weights are not copied."""
    encoder = {"width": sizes.width, "heads": sizes.heads}
    image, text, fused = sizes.layers
    options: dict[str, Any] = {
        "image_encoder": {
            "type": "flava_image",
            "layers": image,
            "image_size": sizes.image,
            "patch_size": sizes.patch,
            **encoder,
        },
        "text_encoder": {
            "type": "flava_text",
            "layers": text,
            "max_positions": sizes.positions,
            **encoder,
        },
        "fused_encoder": {"type": "flava_fused", "layers": fused, **encoder},
        "codebook": {"type": "peer_codes"},
        "projection": sizes.width,
        "padding": PADDING[peer],
    }
    codebook = GivenCodes()
    codebook.num_codes = sizes.codes
    with registered("codebooks", "peer_codes", lambda: codebook), torch.device("meta"):
        made = build_learner(
            ModelSection.model_validate({**options, **model}),
            objective_sections(norm_eps=HEAD_NORM_EPS[peer]),
            words=sizes.words,
            image_size=sizes.image,
            seed=0,
        )
    own = dict(state) if share else {name: value.clone() for name, value in state.items()}
    made.load_state_dict(own, assign=True)
    return made


def batches(sizes: Sizes = TINY, rows: int = 4, negatives: int = 1) -> dict[str, Batch]:
    """An image, a text and a pair batch, the latter two without and with padding."""
    generator = torch.Generator().manual_seed(1)
    patches = (sizes.image // sizes.patch) ** 2
    masked = torch.rand(rows, patches, generator=generator) < 0.4
    image = {
        "image": torch.randn(rows, 3, sizes.image, sizes.image, generator=generator),
        "codes": torch.randint(sizes.codes, (rows, patches), generator=generator),
        "patch_mask": masked,
    }
    pair = {
        "matched": torch.arange(rows) >= negatives,
        "positives": torch.arange(rows) >= negatives,
    }
    found = {"image": Batch("image", **image)}
    for suffix, padded in (("", False), (" padded", True)):
        ids = torch.randint(5, sizes.words, (rows, sizes.length), generator=generator)
        lengths = torch.full((rows,), sizes.length)
        if padded:
            lengths[:-1] = torch.arange(1, rows) * sizes.length // rows
        real = torch.arange(sizes.length)[None] < lengths[:, None]
        hidden = (torch.rand(rows, sizes.length, generator=generator) < 0.3) & real
        hidden[:, 0], hidden[:, 1] = False, True
        text = {
            "text": ids * real,
            "text_masked": (ids * real).masked_fill(hidden, MASK_ID),
            "text_padding": real,
            "word_labels": ids.masked_fill(~hidden, IGNORE),
        }
        found[f"text{suffix}"] = Batch("text", **text)
        found[f"pair{suffix}"] = Batch("pair", **image, **text, **pair)
    return found
