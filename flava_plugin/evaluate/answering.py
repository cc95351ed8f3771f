"""Class names for pictures and answers to questions, each with its probability."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from flava_plugin import registry
from flava_plugin.evaluate.inputs import Picture, picture, refuse_single
from flava_plugin.evaluate.samples import batches
from flava_plugin.evaluate.zero_shot import prompt_ensemble
from flava_plugin.types import Sample

if TYPE_CHECKING:
    from flava_plugin.evaluate.flava import Flava

logger = logging.getLogger(__name__)


class Guess(NamedTuple):
    """A class name or an answer.

    Attributes:
        name: The words.
        probability: From 0 to 1.
    """

    name: str
    probability: float


def class_embeddings(flava: Flava, names: Sequence[str], templates: Sequence[str] | None) -> Tensor:
    """Embed class names by their prompts.

    Args:
        flava: The model.
        names: C class names.
        templates: Prompts with ``{}`` for the name; None takes the bare name.

    Returns:
        (C, E), L2-normalised. Where the run has not trained the projections, that is told.

    Raises:
        ValueError: There is no name, a name stands twice, or a prompt has no place for it.
    """
    refuse_single(names)
    if not names:
        raise ValueError("no class names; give at least two")
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise ValueError(f"class name {twice[0]!r} stands twice; probabilities would be split")
    prompts = ["{}"] if templates is None else list(templates)
    blind = next((each for each in prompts if "{}" not in each), None)
    if blind is not None or not prompts:
        raise ValueError(f"prompt {blind!r} has no {{}}, where the class name goes")
    if not any(each.head.type == "projections" for each in flava.recipe.objectives.values()):
        logger.warning(
            "this run trains no projections: pictures and names are compared by those it started "
            "from, which its encoders may have left; classify with that run"
        )
    return prompt_ensemble(flava, names, prompts)


def probabilities(flava: Flava, images: Tensor, classes: Tensor) -> Tensor:
    """Compare embedded pictures with embedded classes.

    Args:
        flava: The model, for its temperature.
        images: (N, E), L2-normalised.
        classes: (C, E), L2-normalised.

    Returns:
        (N, C) float, rows sum to 1.
    """
    return torch.softmax(flava.scale * images @ classes.T, dim=-1)


def paired(images: Sequence[Picture], questions: Sequence[str]) -> list[tuple[Picture, str]]:
    """Put each picture beside its question.

    Args:
        images: N pictures.
        questions: N questions.

    Returns:
        The pairs.

    Raises:
        ValueError: Their numbers differ.
    """
    refuse_single(images)
    refuse_single(questions)
    if len(images) != len(questions):
        raise ValueError(
            f"answer takes a question for each picture, not {len(questions)} for {len(images)}"
        )
    return list(zip(images, questions, strict=True))


def answer_stream(
    flava: Flava,
    pairs: Iterable[tuple[Picture, str]],
    *,
    k: int,
    objective: str,
    answers: Sequence[str] | None,
) -> Iterator[list[Guess]]:
    """Answer questions about pictures, any number of them in bounded memory.

    Args:
        flava: The model.
        pairs: Pictures with their questions, read as they are needed.
        k: Answers of each.
        objective: Name of the objective whose head answers.
        answers: The head's vocabulary; None takes that of the run's data.

    Yields:
        list[Guess]: For each pair the k likeliest, the likeliest first; of equal ones the earlier
        in the vocabulary.

    Raises:
        ValueError: There is no such objective, or its head and the vocabulary have other sizes.
    """
    if objective not in flava.objectives:
        known = ", ".join(flava.objectives)
        raise ValueError(f"no objective '{objective}' in this run's recipe; it has {known}")
    words = vocabulary_of(flava, objective) if answers is None else list(answers)
    # A loss per answer lets several be right, and has each one's probability by itself.
    apart = flava.recipe.objectives[objective].loss.type == "bce"
    for group in batches(pairs, flava.batch_size):
        samples = [Sample(image=picture(image), text=question) for image, question in group]
        logits = flava.predict(objective, flava.batch(samples, "pair"))
        if not isinstance(logits, Tensor) or logits.shape != (len(group), len(words)):
            shape = tuple(getattr(logits, "shape", ()))
            raise ValueError(
                f"objective '{objective}' gives {shape} for {len(group)} questions, and there are "
                f"{len(words)} answers; give the vocabulary it was trained with"
            )
        chances = logits.double().sigmoid() if apart else logits.double().softmax(-1)
        ranked = chances.cpu().sort(dim=-1, descending=True, stable=True)
        for values, places in zip(ranked.values, ranked.indices, strict=True):
            best = zip(places[:k].tolist(), values[:k].tolist(), strict=True)
            yield [Guess(words[place], value) for place, value in best]


def vocabulary_of(flava: Flava, objective: str) -> list[str]:
    """Find the answers of a head in the data the run was trained on.

    Args:
        flava: The model.
        objective: Name of the objective.

    Returns:
        The answers in the order of the head's outputs.

    Raises:
        ValueError: No source of pairs names them, or its data is not here.
    """
    sources = flava.recipe.data.sources.items()
    faults = []
    for name, source in sources:
        if source.modality != flava.recipe.objectives[objective].modality:
            continue
        try:
            data: Any = registry.datasets.build(source.dataset.type, **source.dataset.options)
        except (ValueError, OSError) as error:
            faults.append(f"data.sources.{name}: {error}")
            continue
        for attribute in ("answers", "class_names"):
            if getattr(data, attribute, None):
                return list(getattr(data, attribute))
    raise ValueError(
        f"no dataset of this run names the answers of '{objective}'"
        + "".join(f"; {fault}" for fault in faults)
        + "; give them, such as answers=['no', 'yes']"
    )
