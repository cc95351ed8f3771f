"""Counts the classes of the data where a recipe leaves them open: ``head.num_classes: null``.

It is done when a recipe is read to be run, whose data has to be there. The number stands in the
run's recipe.yaml then, so that the run can be used without the data it was trained on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flava_plugin.registry import REGISTRIES

if TYPE_CHECKING:
    from flava_plugin.recipe import Recipe

OPTION = "num_classes"


def with_class_counts(recipe: Recipe) -> tuple[Recipe, list[str]]:
    """Fill in ``num_classes`` of heads where it is null.

    Args:
        recipe: A checked recipe with every default written out.

    Returns:
        The recipe, and a line for each count that the data does not give.
    """
    open_heads = [
        name
        for name, objective in recipe.objectives.items()
        if objective.head.options.get(OPTION, 0) is None
    ]
    objectives, errors = dict(recipe.objectives), []
    for name in open_heads:
        objective = objectives[name]
        place = f"objectives.{name}.head.{OPTION}"
        counts: dict[str, int] = {}
        for source, section in recipe.data.sources.items():
            if section.modality == objective.modality:
                spec = section.dataset
                try:
                    dataset = REGISTRIES["datasets"].build(spec.type, **spec.options)
                except (ValueError, OSError) as error:
                    errors.append(f"data.sources.{source}.dataset: {error}")
                    continue
                counts[source] = _classes(dataset)
        if len(set(counts.values())) == 1 and max(counts.values()) > 1:
            number = max(counts.values())
            head = objective.head.model_copy(update={OPTION: number})
            objectives[name] = objective.model_copy(update={"head": head})
        elif counts:
            found = ", ".join(f"{source} has {n or 'none'}" for source, n in counts.items())
            errors.append(
                f"{place}: is null, and the data does not say it (classes: {found}); set it, or "
                "give a dataset with classes, such as a folder with a sub-folder for each"
            )
    return recipe.model_copy(update={"objectives": objectives}), errors


def _classes(dataset: Any) -> int:
    """How many ``class_names`` or, of questions, ``answers`` a dataset has."""
    return len(getattr(dataset, "class_names", None) or getattr(dataset, "answers", None) or ())
