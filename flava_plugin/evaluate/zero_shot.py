"""Zero-shot classification: the picture's nearest class name, no label ever having been trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from flava_plugin.evaluate.exhibits import Cell, Exhibit
from flava_plugin.evaluate.prompts import Prompts, read_prompts
from flava_plugin.evaluate.samples import batches, decoded, keyed, open_dataset, rows_of
from flava_plugin.evaluate.sharing import share
from flava_plugin.schema import DatasetSpec

if TYPE_CHECKING:
    from flava_plugin.evaluate.inference import Flava


def zero_shot(
    *,
    dataset: DatasetSpec,
    split: str = "dev",
    count: int | None = None,
    report_as: str = "accuracy",
    label: str = "class",
    class_names: list[str] | None = None,
    templates: list[str] | None = None,
    prompts: str | None = None,
) -> ZeroShot:
    """Measure accuracy by the nearest mean of prompts (Radford et al. 2021, section 3.1.4).

    Args:
        dataset: Pictures of one class each.
        split: Split of the dataset.
        count: Pictures, the first ones of the dataset; None takes all.
        report_as: Name of the accuracy in the results.
        label: Name in ``Sample.extra`` of the class: its index or its name.
        class_names: Every class; None takes the dataset's attribute of that name.
        templates: Prompts with ``{}`` for the class name; None takes the dataset's attribute of
            that name, or the bare class name where it has none.
        prompts: A JSON file of ``classes`` and ``templates``, or ``clip_benchmark/NAME``; stands
            before what the dataset names, behind the other options.

    Returns:
        The task.

    Raises:
        ValueError: The prompts cannot be read, are for another number of classes, or neither the
            options nor the dataset name the classes.
    """
    opened = open_dataset(dataset, split)
    read = read_prompts(prompts) if prompts is not None else Prompts(None, None)
    known = list(getattr(opened, "class_names", ()))
    names = class_names or read.classes or known
    # names that the recipe lists itself may be of another label, such as colours
    if known and not class_names and len(names) != len(known):
        raise ValueError(
            f"zero_shot: {len(names)} names for the {len(known)} classes of '{dataset.type}'"
        )
    if not names:
        raise ValueError(
            f"zero_shot: dataset '{dataset.type}' has no class_names; list them in class_names"
        )
    asked = templates or read.templates or list(getattr(opened, "templates", ())) or ["{}"]
    return ZeroShot(opened, names, asked, count=count, report_as=report_as, label=label)


class ZeroShot:
    """The zero-shot task on one dataset.

    Args:
        dataset: Pictures of one class each.
        class_names: Every class.
        templates: Prompts with ``{}`` for the class name.
        count: Pictures, the first ones; None takes all.
        report_as: Name of the accuracy.
        label: Name of the class in ``Sample.extra``.
    """

    def __init__(
        self,
        dataset: Any,
        class_names: Sequence[str],
        templates: Sequence[str],
        *,
        count: int | None,
        report_as: str,
        label: str,
    ) -> None:
        self.dataset = dataset
        self.class_names = list(class_names)
        self.templates = list(templates)
        self.count = count
        self.report_as = report_as
        self.label = label

    def __call__(self, flava: Flava) -> dict[str, float | int]:
        """Measure.

        Args:
            flava: The model.

        Returns:
            The accuracy under its name, ``chance``, and the sizes ``classes`` and ``images``.
        """
        classes = prompt_ensemble(flava, self.class_names, self.templates)

        def judge(rows: list[int]) -> tuple[int, int]:
            group = [sample for _, sample in decoded(self.dataset, rows)]
            labels = torch.tensor([self._class_of(sample.extra) for sample in group])
            scores = flava.encode_image([sample.image for sample in group]) @ classes.T
            return int((scores.argmax(1) == labels).sum()), len(group)

        groups = batches(rows_of(self.dataset, self.count), flava.batch_size)
        right = total = 0
        for hits, count in share(flava, groups, judge):
            right += hits
            total += count
        return {
            self.report_as: right / total,
            "chance": 1 / len(self.class_names),
            "classes": len(self.class_names),
            "images": total,
        }

    def exhibits(self, flava: Flava) -> list[Exhibit]:
        """Show the guesses for a few pictures.

        Args:
            flava: The model.

        Returns:
            One exhibit of six pictures.
        """
        classes = prompt_ensemble(flava, self.class_names, self.templates)
        rows = []
        for _, sample in keyed(self.dataset, 6):
            scores = (flava.encode_image([sample.image]) @ classes.T)[0]
            best = scores.topk(min(3, len(scores))).indices.tolist()
            truth = self._class_of(sample.extra)
            cells = [Cell("", sample.image), Cell(self.class_names[truth])]
            for place, guess in enumerate(best):
                verdict = guess == truth if place == 0 or guess == truth else None
                cells.append(
                    Cell(f"{self.class_names[guess]} ({scores[guess]:.2f})", None, verdict)
                )
            rows.append(cells)
        example = self.templates[-1].format(self.class_names[0])
        note = (
            f"The class names, of {len(self.class_names)}, whose prompts lie closest to the "
            f"picture; {len(self.templates)} prompts per class, such as “{example}”."
        )
        return [Exhibit("Zero-shot classification", note, ("picture", "class", "guesses"), rows)]

    def _class_of(self, extra: Any) -> int:
        if self.label not in extra:
            known = ", ".join(extra) or "none"
            raise ValueError(f"zero_shot: a sample has no label '{self.label}'; it has {known}")
        value = extra[self.label]
        return self.class_names.index(value) if isinstance(value, str) else int(value)


def prompt_ensemble(flava: Flava, class_names: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Embed each class as the mean of its normalised prompts, normalised again.

    Args:
        flava: The model.
        class_names: C names.
        templates: Prompts with ``{}`` for the name.

    Returns:
        (C, E) L2-normalised.
    """
    prompts = [template.format(name) for name in class_names for template in templates]
    embedded = flava.encode_text(prompts).view(len(class_names), len(templates), -1)
    return normalize(embedded.mean(1), dim=-1)
