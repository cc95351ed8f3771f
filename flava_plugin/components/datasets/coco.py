"""COCO captions."""

from __future__ import annotations

from flava_plugin.data.layouts.captioned import Captioned
from flava_plugin.data.layouts.coco import coco_records
from flava_plugin.data.layouts.gathering import gather
from flava_plugin.data.layouts.picture_names import Missing
from flava_plugin.schema import InputPath, Share


def coco_captions(
    *,
    path: InputPath,
    images: InputPath,
    splits: tuple[str, ...] = ("train", "restval"),
    missing: Missing = "drop",
    broken_lines: Share = 0.001,
) -> Captioned:
    """COCO captions, a pair for each caption; or Flickr30k by Karpathy's JSON.

    Which pictures of COCO PMD holds is not published. Karpathy's file with the default splits
    leaves his 5,000 validation and 5,000 test pictures out, which retrieval is measured on.

    Args:
        path: ``captions_train2014.json`` or the like, or Karpathy's ``dataset_coco.json``.
        images: Folder of the pictures, or the one above ``train2014`` and ``val2014``.
        splits: Splits of Karpathy's file; the others are left out and counted.
        missing: A picture that is not there: ``drop`` leaves its captions out and counts them,
            ``keep`` replaces them when they are read, against ``data.bad_samples``.
        broken_lines: Share of captions that may be broken; ten may be anyway.

    Returns:
        The dataset.

    Raises:
        ValueError: The file is none of these, or nothing is left of it.
    """
    records = coco_records(path, splits)
    return gather(records, images, what=str(path), missing=missing, broken_lines=broken_lines)
