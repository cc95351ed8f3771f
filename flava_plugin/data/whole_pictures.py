"""Refuses crops and flips where labels say where in a picture things stand."""

from __future__ import annotations

from collections.abc import Mapping

from flava_plugin.sections_data import ImageSection
from flava_plugin.types import Dataset


def refuse_moving(image: ImageSection, datasets: Mapping[str, Dataset]) -> None:
    """Refuse a recipe that would move pictures away from under their labels.

    A dataset whose labels are places (boxes, points, masks) says so by an attribute
    ``whole_pictures`` that is true; crops and flips of ``data.image`` do not reach its labels. One
    that wants both crops for itself, where it knows the labels.

    Args:
        image: The recipe's ``data.image``.
        datasets: A dataset for each source.

    Raises:
        ValueError: A dataset says so, and pictures are cropped or flipped.
    """
    for name, dataset in datasets.items():
        if getattr(dataset, "whole_pictures", False) and (image.crop is not None or image.flip):
            raise ValueError(
                f"data.image: crop {image.crop}, flip {image.flip}, and the labels of "
                f"data.sources.{name} are places in whole pictures, which would not follow; set "
                "data.image.crop=null data.image.flip=false"
            )
