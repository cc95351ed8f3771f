"""What timm, DINO, DINOv2 and Hugging Face call a ViT's weights, and what of theirs is refused.

Names are those of timm's ``VisionTransformer``, of DINO's ``vision_transformer.py`` and
``main_dino.py``, of DINOv2's ``models/vision_transformer.py`` and ``ssl_meta_arch.py``, and of what
transformers 4 and 5 save (``ViTModel``, ``ViTMAEForPreTraining``, ``ViTMSNModel``,
``Dinov2Model``). transformers 5 has other names in memory than in its files; both are known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flava_plugin.model.weights_names import HUGGING_FACE_LAYERS

PREFIXES = (
    "module.",  # DistributedDataParallel
    "_orig_mod.",  # torch.compile
    "teacher.",
    "student.",
    "backbone.",  # DINO's MultiCropWrapper, DINOv2's ModuleDict
    "vit.",  # Hugging Face's models with heads
    "dinov2.",
    "dinov2_with_registers.",
    "deit.",
    "beit.",
)
"""Beginnings of names that say where the ViT sits, and nothing of what it is."""

SCALE = "scale"
"""Last word of our name for a layer scale, which our layers do not have: it is folded away."""

SEVERAL = re.compile(
    r"(?:.*\.)?(?:image|text|mm)_encoder\..*|(?:.*\.)?(?:image|text|multimodal|vision)_model\..*"
)
"""Names of a FLAVA or a CLIP."""

POST_NORM = re.compile(
    r"(?:.*\.)?(?:bert|roberta|electra)\..*|.*\.attention\.self\..*|(?:.*\.)?embeddings\.word_.*"
)
"""Names of a BERT."""

UNUSED = re.compile(
    r"(?:head|pre_logits|dino_head|ibot_head|classifier|decoder)\..*|decoder_(?:embed|blocks|norm|pred)"
    r"\..*|decoder_pos_embed"
)
"""Heads, and the decoder of masked autoencoders: they read the encoder, which is whole without."""

REFUSED = {
    r"(?:.*\.)?(?:reg_token|register_tokens|storage_tokens)": "register tokens; only [CLS] stands "
    "before the patches here",
    r"(?:.*\.)?(?:dist_token|distillation_token)|head_dist\..*": "a distillation token; only [CLS] "
    "stands before the patches here",
    r".*\.mlp\.(?:w12|w3|fc1_g|fc1_x|weights_in|weights_out|gate_proj|up_proj|down_proj)\..*": (
        "a gated MLP (SwiGLU), and not linear, GELU, linear"
    ),
    r".*(?:relative_position|rel_pos).*": "relative position biases; positions are added to the "
    "patches here",
    r".*rope.*": "rotary positions; positions are added to the patches here",
    r".*\.(?:q_norm|k_norm)\..*": "a norm of queries and keys, which attention has none of here",
    r".*\.(?:attn|mlp)\.norm\..*": "a norm inside a block's attention or MLP",
    r"norm_pre\..*": "a norm before the first block, as CLIP has it",
    r"fc_norm\..*": "a norm after pooling; FLAVA reads each position after a final norm",
    r"attn_pool\..*": "attention pooling; FLAVA reads [CLS]",
    r".*\.(?:attns|ffns|in_proj|in_norm|attn_out_proj|mlp_out_proj|out_proj)\..*": (
        "blocks with attention and MLP side by side, and not one after the other"
    ),
    r"(?:patch_embed|embeddings\.patch_embeddings)\..*": "more than one convolution before the "
    "blocks",
}
"""Names without their beginnings -> what they are that our image encoder is not."""


@dataclass(frozen=True)
class VitNaming:
    """Names of one family.

    Attributes:
        title: Whose they are.
        block: Matches a name inside a block: its number, and the rest.
        written: How such a name is written.
        inside: Rest of a name -> rests of ours; several are rows of one tensor on each other.
        outside: The same of names outside of blocks.
    """

    title: str
    block: re.Pattern[str]
    written: str
    inside: Mapping[str, tuple[str, ...]]
    outside: Mapping[str, tuple[str, ...]]

    def ours(self, name: str) -> tuple[str, ...]:
        """Translate a name.

        Args:
            name: Theirs, without prefix.

        Returns:
            Our image encoder's names of its parts in order; none where it has no such weight.
        """
        found = self.block.fullmatch(name)
        if found is None:
            return self.outside.get(name, ())
        return tuple(f"encoder.layer.{found[1]}.{o}" for o in self.inside.get(found[2], ()))

    def theirs(self, name: str) -> str:
        """Translate a name back.

        Args:
            name: Our image encoder's.

        Returns:
            Theirs, without prefix; the first where there are several.
        """
        found = re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)", name)
        table, ours = (self.outside, name) if found is None else (self.inside, found[2])
        theirs = next(key for key, parts in table.items() if ours in parts)
        return theirs if found is None else self.written.format(found[1], theirs)


def _with_leaves(stems: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {
        f"{theirs}.{leaf}": tuple(f"{part}.{leaf}" for part in ours)
        for theirs, ours in stems.items()
        for leaf in ("weight", "bias")
    }


_PROJECTION = ("embeddings.patch_embeddings.projection",)
_ATTENTION_SCALE, _MLP_SCALE = (f"attention.output.{SCALE}",), (f"feedforward.model.2.{SCALE}",)
_PLAIN = {
    "norm1": ("attention_layernorm",),
    "norm2": ("feedforward_layernorm",),
    "mlp.fc1": ("feedforward.model.0",),
    "mlp.fc2": ("feedforward.model.2",),
}

TIMM = VitNaming(
    title="timm's names, which are DINO's too",
    # DINOv2's trainer cuts the blocks into chunks: the chunk's number, then the block's own.
    block=re.compile(r"blocks\.(?:\d+\.)?(0|[1-9]\d*)\.(.+)"),
    written="blocks.{}.{}",
    inside={
        **_with_leaves(
            {
                "attn.qkv": ("attention.query", "attention.key", "attention.value"),
                "attn.proj": ("attention.output",),
                **_PLAIN,
            }
        ),
        "ls1.gamma": _ATTENTION_SCALE,
        "ls2.gamma": _MLP_SCALE,
        "gamma_1": _ATTENTION_SCALE,
        "gamma_2": _MLP_SCALE,
    },
    outside={
        "cls_token": ("embeddings.cls_token",),
        "mask_token": ("embeddings.mask_token",),
        "pos_embed": ("embeddings.position_embeddings",),
        **_with_leaves({"patch_embed.proj": _PROJECTION, "norm": ("layernorm",)}),
    },
)

HUGGING_FACE = VitNaming(
    title="Hugging Face's names",
    block=re.compile(r"(?:encoder\.layer|layers)\.(0|[1-9]\d*)\.(.+)"),
    written="encoder.layer.{}.{}",
    inside={
        **_with_leaves(
            {
                theirs.strip("."): (ours.strip("."),)
                for ours, theirs in HUGGING_FACE_LAYERS.items()
                if "embeddings" not in ours
            }
        ),
        **_with_leaves(_PLAIN),
        **_with_leaves(
            {
                "attention.q_proj": ("attention.query",),
                "attention.k_proj": ("attention.key",),
                "attention.v_proj": ("attention.value",),
                "attention.o_proj": ("attention.output",),
            }
        ),
        "layer_scale1.lambda1": _ATTENTION_SCALE,
        "layer_scale2.lambda1": _MLP_SCALE,
        "lambda_1": _ATTENTION_SCALE,
        "lambda_2": _MLP_SCALE,
    },
    outside={
        **{
            name: (name,)
            for name in (
                "embeddings.cls_token",
                "embeddings.mask_token",
                "embeddings.position_embeddings",
            )
        },
        **_with_leaves(
            {
                _PROJECTION[0]: _PROJECTION,
                "layernorm": ("layernorm",),
                "pooler.dense": ("pooler.dense",),
            }
        ),
    },
)


def bare(names: Iterable[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Take the beginnings off that say where a ViT sits.

    Args:
        names: Of a file.

    Returns:
        Names in the file by what is left of them, and those of a student beside its teacher, which
        DINO's and DINOv2's recipes evaluate.
    """
    known = list(names)
    start = r"(?:module\.|_orig_mod\.)*"
    taught = any(re.match(start + r"teacher\.", name) for name in known)
    students = [name for name in known if taught and re.match(start + r"student\.", name)]
    found: dict[str, list[str]] = {}
    for name in known:
        if name not in students:
            found.setdefault(_without_prefixes(name), []).append(name)
    return found, students


def _without_prefixes(name: str) -> str:
    while True:
        prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)
        if prefix is None:
            return name
        name = name.removeprefix(prefix)


def naming_of(names: Iterable[str]) -> VitNaming:
    """Tell whose names they are.

    Args:
        names: Without their beginnings.

    Returns:
        The family.

    Raises:
        ValueError: They are of no ViT that is known here.
    """
    known = sorted(names)
    several = [name for name in known if SEVERAL.fullmatch(name)]
    if several:
        raise ValueError(
            f"{several[0]} is of a FLAVA or a CLIP, and not of a ViT alone; a whole FLAVA starts a "
            "run as init.weights, after 'flava weights convert'"
        )
    post_norm = [name for name in known if POST_NORM.fullmatch(name)]
    if post_norm:
        raise ValueError(
            f"{post_norm[0]} is of a BERT, whose layers have their norms behind attention and MLP; "
            "FLAVA's have them in front, so these weights compute nothing of use in its encoders"
        )
    for naming, signs in ((TIMM, ("blocks.", "patch_embed.")), (HUGGING_FACE, ("embeddings.",))):
        if any(name.startswith(signs) or naming.block.fullmatch(name) for name in known):
            return naming
    shown = ", ".join(known[:3]) or "none at all"
    raise ValueError(
        f"these are not the names of a ViT that is known here: {shown}; known are timm's, DINO's, "
        "DINOv2's and Hugging Face's"
    )


def reason(name: str) -> str:
    """Say why a name has no place in our image encoder.

    Args:
        name: Theirs, without prefix.

    Returns:
        What it is.
    """
    return next((why for what, why in REFUSED.items() if re.fullmatch(what, name)), "is unknown")
