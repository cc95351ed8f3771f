"""Whether an objective's parts fit together: its batches hold what its head reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from flava_plugin.registry import heads
from flava_plugin.types import Modality

if TYPE_CHECKING:
    from flava_plugin.recipe import Recipe
    from flava_plugin.sections import ObjectiveSection

ONE_SIDED: dict[Modality, frozenset[str]] = {
    "image": frozenset({"image", "image_masked", "image_projected"}),
    "text": frozenset({"text", "text_masked", "text_projected"}),
}
"""Fields of ``Features`` by kind of batch; a batch of pairs has them all."""


def objective_errors(recipe: Recipe) -> Iterator[str]:
    """Find heads that read what their batches or the model do not have.

    Heads say so by the class attributes ``needs`` and ``needs_codes`` and by an option ``reads``;
    of a head that says nothing, the first step will tell.

    Args:
        recipe: A recipe without errors of form.

    Yields:
        str: A line for each error.
    """
    for name, objective in recipe.objectives.items():
        try:
            builder = heads.get(objective.head.type)
        except ValueError:
            continue  # an unknown name has its own line
        modality = objective.modality
        for field in sorted(_reads(objective)):
            if modality in ONE_SIDED and field not in ONE_SIDED[modality]:
                yield (
                    f"objectives.{name}: head '{objective.head.type}' reads {field}, which a batch "
                    f"of modality '{modality}' does not have; change the modality or the head"
                )
        if getattr(builder, "needs_codes", False) and recipe.model.codebook is None:
            yield (
                f"objectives.{name}: head '{objective.head.type}' predicts the codes of patches; "
                "set model.codebook, which makes them"
            )


def _reads(objective: ObjectiveSection) -> frozenset[str]:
    needs: object = getattr(heads.get(objective.head.type), "needs", None)
    reads = objective.head.options.get("reads")
    chosen = frozenset({reads}) if reads in ("image", "text", "fused") else frozenset()
    return chosen | (needs if isinstance(needs, frozenset) else frozenset())
