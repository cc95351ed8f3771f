"""RedCaps."""

from __future__ import annotations

from flava_plugin.data.layouts.captioned import Captioned
from flava_plugin.data.layouts.gathering import gather
from flava_plugin.data.layouts.lines import files_at
from flava_plugin.data.layouts.picture_names import Missing
from flava_plugin.data.layouts.red_caps import Caption, red_caps_records
from flava_plugin.schema import InputPath, Share


def redcaps(
    *,
    path: InputPath,
    images: InputPath,
    caption: Caption = "caption",
    missing: Missing = "drop",
    broken_lines: Share = 0.001,
) -> Captioned:
    """RedCaps: pictures of Reddit with their titles.

    Args:
        path: A ``SUBREDDIT_YEAR.json``, or the folder ``annotations``.
        images: Folder of ``SUBREDDIT/IMAGE_ID.jpg``, as RedCaps' own tool fetches them.
        caption: ``caption``, cleaned by the authors, or ``raw_caption``.
        missing: A picture that is not there: ``drop`` leaves its caption out and counts it,
            ``keep`` replaces it when it is read, against ``data.bad_samples``.
        broken_lines: Share of annotations that may be broken; ten may be anyway.

    Returns:
        The dataset.

    Raises:
        ValueError: A file is none of RedCaps', or nothing is left.
    """
    records = red_caps_records(files_at(path, "*.json"), caption)
    return gather(records, images, what=str(path), missing=missing, broken_lines=broken_lines)
