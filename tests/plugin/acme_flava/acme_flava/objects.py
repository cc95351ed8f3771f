"""Pictures with boxes, in the JSON of COCO's instances: any number of things in a picture."""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated, Any

from PIL import Image
from pydantic import Field

from flava_plugin import Sample
from flava_plugin.schema import InputPath, Int

NOTHING = -1
"""Class of the places that a picture does not fill."""


class Objects:
    """Boxes of every picture, padded to one number, as rows of a batch are stacked.

    Args:
        path: The JSON, with ``images``, ``annotations`` and ``categories``.
        images: Folder of the pictures.
        most: Places for things; of pictures with more, the largest are kept.

    Raises:
        ValueError: The file is none of this kind, or an annotation names what is not there.

    Attributes:
        class_names: Names of the categories, in the order of their ids.
        whole_pictures: Says that labels are places in whole pictures, so that a recipe which
            crops or flips them is refused.
    """

    whole_pictures = True

    def __init__(self, path: InputPath, images: InputPath, most: int) -> None:
        told = json.loads(path.read_text("utf-8"))
        missing = [key for key in ("images", "annotations", "categories") if key not in told]
        if missing:
            raise ValueError(f"{path}: no {', '.join(missing)} in it; give COCO's instances JSON")
        categories = sorted(told["categories"], key=lambda each: each["id"])
        classes = {each["id"]: place for place, each in enumerate(categories)}
        self.class_names = tuple(each["name"] for each in categories)
        self._folder, self._most = images, most
        self._pictures = sorted(told["images"], key=lambda each: each["id"])
        self._things: dict[int, list[tuple[int, list[float]]]] = {
            each["id"]: [] for each in self._pictures
        }
        for thing in told["annotations"]:
            if thing["image_id"] not in self._things or thing["category_id"] not in classes:
                raise ValueError(
                    f"{path}: annotation {thing.get('id')} is of picture {thing['image_id']} and "
                    f"category {thing['category_id']}, which the file does not list"
                )
            if not thing.get("iscrowd"):
                found = classes[thing["category_id"]], thing["bbox"]
                self._things[thing["image_id"]].append(found)

    def __len__(self) -> int:
        return len(self._pictures)

    def read(self, index: int, /) -> Sample:
        """Read a picture with its things.

        Args:
            index: Of the picture.

        Returns:
            With ``boxes`` (M, 4): left, top, right, bottom as shares of the picture; and
            ``classes`` (M,), ``NOTHING`` at places left over.
        """
        about = self._pictures[index]
        wide, high = about["width"], about["height"]
        things = sorted(self._things[about["id"]], key=lambda thing: -thing[1][2] * thing[1][3])
        boxes, classes = [], []
        for number, (x, y, w, h) in things[: self._most]:
            boxes.append([x / wide, y / high, (x + w) / wide, (y + h) / high])
            classes.append(number)
        left = self._most - len(classes)
        extra: dict[str, Any] = {
            "boxes": boxes + [[0.0] * 4] * left,
            "classes": classes + [NOTHING] * left,
        }
        return Sample(image=Image.open(self._folder / about["file_name"]), extra=extra)

    @property
    def coverage(self) -> dict[str, int]:
        """What the run's record says of the data."""
        crowded = sum(len(things) > self._most for things in self._things.values())
        counts = Counter(number for things in self._things.values() for number, _ in things)
        return {
            "pictures": len(self),
            "things": sum(counts.values()),
            "pictures_with_more_things_than_places": crowded,
        }


def acme_objects(
    *, path: InputPath, images: InputPath, most: Annotated[Int, Field(gt=0)] = 16
) -> Objects:
    """Pictures with the labels ``boxes`` and ``classes``, in COCO's instances JSON.

    Args:
        path: The JSON, such as ``instances_train2017.json``.
        images: Folder of the pictures, such as ``train2017``.
        most: Places for things; of pictures with more, the largest are kept.

    Returns:
        The dataset, with ``class_names``.
    """
    return Objects(path, images, most)
