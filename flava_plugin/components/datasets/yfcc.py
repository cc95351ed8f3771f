"""YFCC100M with FLAVA's filter."""

from __future__ import annotations

from itertools import chain

from flava_plugin.data.layouts.captioned import Captioned
from flava_plugin.data.layouts.english import English
from flava_plugin.data.layouts.gathering import gather
from flava_plugin.data.layouts.lines import files_at
from flava_plugin.data.layouts.picture_names import Missing
from flava_plugin.data.layouts.yfcc import Text, TextFilter, yfcc_records
from flava_plugin.schema import Count, InputPath, Share


def yfcc100m(
    *,
    path: InputPath,
    images: InputPath,
    texts: tuple[Text, ...] = ("description", "title"),
    english: English = "stopwords",
    min_words: Count = 3,
    missing: Missing = "drop",
    broken_lines: Share = 0.001,
) -> Captioned:
    """YFCC100M, filtered as FLAVA's paper says: English, and more than two words.

    The description is tried first, then the title. How the paper told English is not published;
    the default rule asks for English function words (see ``english.is_english``) and keeps fewer
    short titles than a classifier would. A hundred million lines take about an hour at
    each start, so pack what is left into shards.

    Args:
        path: ``yfcc100m_dataset`` (25 columns, plain or ``.bz2``), a ``*.jsonl`` such as PMD's
            ``yfcc100m_subset.jsonl``, or a folder of them.
        images: Folder of ``abc/def/abcdef....jpg`` by the photographs' hashes.
        texts: Texts in the order they are tried.
        english: ``stopwords``, ``ascii`` or ``off``.
        min_words: Fewest words of a caption.
        missing: A picture that is not there: ``drop`` leaves it out and counts it, ``keep``
            replaces it when it is read, against ``data.bad_samples``.
        broken_lines: Share of lines that may be broken; ten may be anyway.

    Returns:
        The dataset.

    Raises:
        ValueError: There is no such file, or nothing is left of it.
    """
    files = files_at(path, "yfcc100m_dataset*", "*.jsonl", "*.bz2")
    chosen = TextFilter(texts, english, min_words)
    records = chain.from_iterable(yfcc_records(file, chosen) for file in files)
    return gather(records, images, what=str(path), missing=missing, broken_lines=broken_lines)
