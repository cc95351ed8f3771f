"""The task of finding things, and the page of the report that shows what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
from PIL import Image, ImageDraw
from pydantic import Field

from acme_flava.average_precision import Truth, hits, mean_average_precision
from acme_flava.grid import Found, find
from flava_plugin import datasets
from flava_plugin.evaluate.exhibits import Cell, Exhibit
from flava_plugin.evaluate.samples import batches, decoded, rows_of
from flava_plugin.evaluate.sharing import share
from flava_plugin.schema import DatasetSpec, Int, Share

if TYPE_CHECKING:
    from flava_plugin.evaluate.flava import Flava

SHOWN = 8
"""Pictures of the report."""


class Detection:
    """Measures a detector.

    Args:
        dataset: Pictures with ``boxes`` and ``classes``, with ``class_names``.
        objective: The objective whose head detects.
        overlap: Smallest IoU of a box with what it is to be.
        least: Smallest score of a box.
        most: Most boxes of a picture.
    """

    def __init__(
        self, dataset: Any, objective: str, *, overlap: float, least: float, most: int
    ) -> None:
        self.dataset, self.objective = dataset, objective
        self.overlap, self.least, self.most = overlap, least, most

    def __call__(self, flava: Flava) -> dict[str, float | int]:
        """Measure a model.

        Args:
            flava: The model.

        Returns:
            ``map50`` (of whatever overlap), ``map50_chance`` that of the same boxes on another
            picture, and numbers of pictures and things.

        Raises:
            ValueError: There is nothing to be found.
        """
        found, truth = self._look(flava, None)
        things = sum(len(each.classes) for each in truth)
        if not things:
            raise ValueError("acme_map: the dataset has no things; check its path")
        classes = len(self.dataset.class_names)
        name = f"map{round(100 * self.overlap)}"
        pairs = zip(found, truth, strict=True)
        others = zip(found, truth[1:] + truth[:1], strict=True)
        return {
            name: mean_average_precision(pairs, classes, self.overlap),
            f"{name}_chance": mean_average_precision(others, classes, self.overlap),
            "pictures": len(truth),
            "things": things,
        }

    def exhibits(self, flava: Flava) -> list[Exhibit]:
        """Show the first pictures.

        Args:
            flava: The model.

        Returns:
            One table.
        """
        rows = []
        found, truth = self._look(flava, SHOWN)
        for index, (boxes, there) in enumerate(zip(found, truth, strict=True)):
            likely = boxes.scores >= 0.3
            sure = Found(*(values[likely] for values in boxes))
            picture = self.dataset.read(index).image.convert("RGB")
            cells = [Cell(text=self._names(there.classes), image=_drawn(picture, sure))]
            for place, right in enumerate(hits(sure, there, self.overlap).tolist()):
                text = f"{self._names(sure.classes[[place]])} {float(sure.scores[place]):.2f}"
                cells.append(Cell(text=text, right=right))
            rows.append(cells)
        note = f"Boxes with a score of 0.3 or more; right ones overlap by {self.overlap} or more."
        return [Exhibit("Things found", note, ["what is there", "what was found"], rows)]

    def _names(self, classes: torch.Tensor) -> str:
        return ", ".join(self.dataset.class_names[number] for number in classes.tolist())

    def _look(self, flava: Flava, count: int | None) -> tuple[list[Found], list[Truth]]:
        def work(rows: list[int]) -> list[tuple[Found, Truth]]:
            samples = [sample for _, sample in decoded(self.dataset, rows)]
            grid = flava.predict(self.objective, flava.batch(samples, "image"))
            options = {"least": self.least, "overlap": self.overlap, "most": self.most}
            results = []
            for row, sample in enumerate(samples):  # a batch of an evaluation has no labels
                classes = torch.tensor(sample.extra["classes"])
                truth = Truth(
                    torch.tensor(sample.extra["boxes"])[classes >= 0], classes[classes >= 0]
                )
                found = find(grid.logits[row].cpu(), grid.boxes[row].cpu(), **options)
                results.append((found, truth))
            return results

        groups = batches(rows_of(self.dataset, count), flava.batch_size)
        pairs = [pair for group in share(flava, groups, work) for pair in group]
        return [found for found, _ in pairs], [truth for _, truth in pairs]


def _drawn(picture: Image.Image, found: Found) -> Image.Image:
    large = picture.resize((208, 208), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(large)
    for box in found.boxes.tolist():
        draw.rectangle([208 * side for side in box], outline="white", width=2)
    return large


def acme_map(
    *,
    dataset: DatasetSpec,
    objective: str,
    overlap: Share = 0.5,
    least: Share = 0.02,
    most: Annotated[Int, Field(gt=0)] = 100,
) -> Detection:
    """Mean average precision of boxes.

    Args:
        dataset: Pictures with ``boxes`` and ``classes``, such as ``acme_objects``.
        objective: The objective whose head detects.
        overlap: Smallest IoU of a box with what it is to be; also where two boxes are one thing.
        least: Smallest score of a box.
        most: Most boxes of a picture (COCO: 100).

    Returns:
        The task.
    """
    opened = datasets.build(dataset.type, **dataset.options)
    return Detection(opened, objective, overlap=overlap, least=least, most=most)
