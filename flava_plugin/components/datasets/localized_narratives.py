"""Localized Narratives."""

from __future__ import annotations

from flava_plugin.data.layouts.captioned import Captioned
from flava_plugin.data.layouts.gathering import gather
from flava_plugin.data.layouts.lines import files_at
from flava_plugin.data.layouts.localized_narratives import narrative_records
from flava_plugin.data.layouts.picture_names import Missing
from flava_plugin.schema import InputPath, Share


def localized_narratives(
    *,
    path: InputPath,
    images: InputPath,
    sentences: bool = True,
    missing: Missing = "drop",
    broken_lines: Share = 0.001,
) -> Captioned:
    """Localized Narratives of Open Images, COCO, Flickr30k and ADE20k.

    Narratives are paragraphs of about 40 words; PMD counts 1.9 M pairs of 13.8 words made of about
    0.85 M narratives, so they were cut into sentences there (inferred of these numbers).

    Args:
        path: A ``*.jsonl`` file, or a folder of them.
        images: Folder of the pictures, which may lie in sub-folders called by ``dataset_id``.
        sentences: Whether each sentence makes a pair; false keeps narratives whole.
        missing: A picture that is not there: ``drop`` leaves its captions out and counts them,
            ``keep`` replaces them when they are read, against ``data.bad_samples``.
        broken_lines: Share of lines that may be broken; ten may be anyway.

    Returns:
        The dataset.

    Raises:
        ValueError: There is no such file, or nothing is left of it.
    """
    records = narrative_records(files_at(path, "*.jsonl", "*.jsonl.gz"), split=sentences)
    return gather(records, images, what=str(path), missing=missing, broken_lines=broken_lines)
