"""Every section of a recipe, with its defaults and where each number comes from.

They stand together, ``data`` in ``sections_data`` and how tasks share a run in
``sections_balance``, so that the schema can be read through; none imports torch. A code file takes
its own section or plain values, never the whole recipe.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from flava_plugin.schema import (
    CodebookSpec,
    Count,
    EncoderSpec,
    EvaluatorSpec,
    Float,
    HeadSpec,
    LossSpec,
    NonNegative,
    Positive,
    PositiveFloat,
    Section,
    Share,
)
from flava_plugin.types import Modality


class ModelSection(Section):
    """The backbone.

    Attributes:
        image_encoder: An encoder of images.
        text_encoder: An encoder of text.
        fused_encoder: The multimodal encoder; null for a dual encoder such as CLIP's, where no head
            can read ``fused``.
        codebook: What turns an image into patch targets; not needed without MIM and MMM-image.
        projection: Width E of the contrastive projections (paper table A.1: 512; both public
            implementations: 768).
        padding: ``masked``: no encoder attends to padding (Hugging Face since 2024);
            ``released``: the multimodal encoder does, as torchmultimodal's and so the released.
        init_std: Standard deviation of the initial weights (torchmultimodal: 0.02).
        position_std: The same for position embeddings and tokens of images (torchmultimodal: 0).
    """

    image_encoder: EncoderSpec
    text_encoder: EncoderSpec
    fused_encoder: EncoderSpec | None = None
    codebook: CodebookSpec | None = None
    projection: Positive = 512
    padding: Literal["masked", "released"] = "masked"
    init_std: PositiveFloat = 0.02
    position_std: NonNegative = 0.0


class ObjectiveSection(Section):
    """A head paired with a loss.

    Attributes:
        modality: The kind of batch that feeds it.
        head: A registered head.
        loss: A registered loss.
        weight: Its factor in the total (paper: 1).
    """

    modality: Modality
    head: HeadSpec
    loss: LossSpec
    weight: NonNegative = 1.0


class OptimSection(Section):
    """AdamW, its schedule and clipping.

    Attributes:
        lr: Peak learning rate (paper: 1e-3).
        betas: Of AdamW (paper: 0.9, 0.999).
        eps: Of AdamW.
        weight_decay: On matrices and embeddings only; norms, biases, class and mask tokens and the
            logit scale have none (paper: 0.1).
        warmup_steps: Steps of linear warm-up (paper: 10,000).
        final_share: The cosine ends at this share of ``lr``.
        clip_norm: Largest gradient norm; null for no clipping (paper: not stated).
        max_logit_scale: Upper bound of the contrastive logit scale, kept after each step
            (torchmultimodal: 4.6052 = ln 100).
        layer_decay: Factor d of the learning rate from a layer of an encoder to the one before it:
            an encoder of N layers has d in the last one, d^N in the first one and d^(N+1) in its
            embeddings; heads, projections and final norms have 1 (BEiT's fine-tuning).
        ema: Decay of a moving average of the weights, which evaluations take then and checkpoints
            keep beside the weights; null for none.
    """

    lr: PositiveFloat = 1e-3
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegative = 0.1
    warmup_steps: Count = 10_000
    final_share: Share = 0.0
    clip_norm: PositiveFloat | None = 1.0
    max_logit_scale: PositiveFloat = 4.6052
    layer_decay: Annotated[Float, Field(gt=0, le=1)] = 1.0
    ema: Annotated[Float, Field(gt=0, lt=1)] | None = None


class ShardingSection(Section):
    """How parameters, gradients and optimiser state lie over ranks.

    Attributes:
        strategy: ``none``: one process. ``ddp``: replicas, gradients averaged. Sharded besides:
            ``ddp_oss`` the optimiser's state (ZeRO-1), ``fairscale_sdp`` also gradients (ZeRO-2),
            ``fairscale_fsdp`` (CUDA only) and ``fsdp2`` (torch 2.6) also parameters (ZeRO-3).
        activation_checkpointing: Compute encoder layers anew in the backward pass instead of
            keeping their activations: ``true`` all, a number n every n-th of each encoder.
        timeout: Seconds after which ranks give up on one that does not join them (torch: 1800);
            more than rank 0 takes to write a whole checkpoint or for an evaluation, which it does
            while the others wait.
    """

    strategy: Literal["none", "ddp", "ddp_oss", "fairscale_sdp", "fairscale_fsdp", "fsdp2"] = "ddp"
    activation_checkpointing: bool | Annotated[int, Field(gt=1)] = False
    timeout: Positive = 1800


class CheckpointSection(Section):
    """When a run is saved.

    Attributes:
        every: Steps between checkpoints.
        keep: How many of the newest are kept; the best one is kept besides.
        format: ``full``: rank 0 gathers and writes whole tensors. ``sharded``: every rank writes
            its part, for models that do not fit on one; all need to see the same ``run_dir``.
            ``flava weights merge`` joins the parts.
    """

    every: Positive = 1000
    keep: Positive = 3
    format: Literal["full", "sharded"] = "full"


class MetricsSection(Section):
    """When a run reports.

    Attributes:
        every: Steps between lines of ``metrics.jsonl`` and TensorBoard points.
        tensorboard: Whether TensorBoard events are written.
    """

    every: Positive = 20
    tensorboard: bool = True


class EvaluateSection(Section):
    """What is measured during a run and by ``flava eval``.

    Attributes:
        every: Steps between evaluations during training; 0 for none.
        metric: ``task.figure`` whose best checkpoint is kept.
        lower_is_better: Whether a smaller figure is the better one; else a larger one is.
        patience: Evaluations in a row without a better figure after which the run stops early;
            null for never. A run that is started again with more patience goes on.
        split: Value of every task's ``split`` option during training.
        tasks: Registered evaluators by task name.
    """

    every: Count = 0
    metric: str | None = None
    lower_is_better: bool = False
    patience: Positive | None = None
    split: str | None = None
    tasks: dict[str, EvaluatorSpec] = {}
