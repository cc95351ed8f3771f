"""Visual Genome's region descriptions."""

from __future__ import annotations

from flava_plugin.data.layouts.captioned import Captioned
from flava_plugin.data.layouts.gathering import gather
from flava_plugin.data.layouts.picture_names import Missing
from flava_plugin.data.layouts.visual_genome import region_records
from flava_plugin.schema import InputPath, Share


def visual_genome(
    *,
    path: InputPath,
    images: InputPath,
    missing: Missing = "drop",
    broken_lines: Share = 0.001,
) -> Captioned:
    """Visual Genome: each phrase of a region with its whole picture.

    Args:
        path: ``region_descriptions.json``.
        images: Folder that holds ``VG_100K`` and ``VG_100K_2``, or all pictures.
        missing: A picture that is not there: ``drop`` leaves its phrases out and counts them,
            ``keep`` replaces them when they are read, against ``data.bad_samples``.
        broken_lines: Share of phrases that may be broken; ten may be anyway.

    Returns:
        The dataset.

    Raises:
        ValueError: The file is no such JSON, or nothing is left of it.
    """
    records = region_records(path)
    return gather(records, images, what=str(path), missing=missing, broken_lines=broken_lines)
