"""What stands out in a diagnosis, in words."""

from __future__ import annotations

from statistics import median

from flava_plugin.balance_record import READS, BalanceRecord

STARVED = 0.1
"""An objective is starved in an encoder where its norm is less than this part of the median."""

CONFLICT = -0.1
"""Two objectives are in conflict in an encoder where their cosine is below this."""

FAVOURED = 2.0
"""Clipping favours a kind of step where it leaves this many times as much of it as of another."""


def findings(record: BalanceRecord) -> list[str]:
    """Say what stands out: what clipping favours, and by encoder what starves or is in conflict.

    Args:
        record: A diagnosis.

    Returns:
        A sentence each; none where all is well.
    """
    clips = record.clips()
    least = min(clips, key=lambda kind: clips[kind], default="")
    said = [
        f"clipping leaves {factor:.2g} of a step of kind {kind} and {clips[least]:.2g} of one "
        f"of kind {least}: {kind} has {factor / clips[least]:.1f} times the weight that the "
        "recipe gives it; raise optim.clip_norm, or lower the weights of its objectives"
        for kind, factor in clips.items()
        if factor > FAVOURED * clips[least]
    ]
    for encoder in record.encoders():
        norms = {n: v for n, v in record.norms(encoder, weighted=True).items() if v > READS}
        middle = median(norms.values()) if norms else 0.0
        said += [
            f"{name} is starved in the {encoder} encoder: its weighted gradient is "
            f"{norm:.2g}, 1/{middle / norm:.0f} of the median; "
            f"objectives.{name}.weight raises it"
            for name, norm in norms.items()
            if norm < STARVED * middle
        ]
        said += [
            f"{one} and {other} are in conflict in the {encoder} encoder: cosine {cosine:+.2f}"
            for (one, other), cosine in record.cosines(encoder).items()
            if cosine < CONFLICT
        ]
    return said
