"""The one file that imports ``torchtext``: its tokenizer, its datasets, or why there are none.

Its last release, 0.18, is a binary built for torch 2.3: with a later torch it does not load. So
nothing here is imported before a recipe asks for it, and what does not load says so in one line.
"""

from __future__ import annotations

import importlib
import inspect
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

HOW = (
    "install it into an environment of its own, of Python 3.10 to 3.12: "
    "pip install 'flava-plugin[torchtext]' (which takes torch 2.3)"
)


@cache
def why_it_does_not_load() -> str | None:
    """Import torchtext.

    Returns:
        None where it works; else one line: why not, with the versions.
    """
    import torch

    if find_spec("torchtext") is None:
        return (
            "torchtext is not installed, and works with torch 2.3 only; "
            f"this is torch {torch.__version__}"
        )
    try:
        import torchtext

        # said once by every import otherwise, in each reading process
        torchtext.disable_torchtext_deprecation_warning()
        import torchtext.transforms
    except Exception as error:  # an OSError of the loader, or whatever a foreign import raises
        reason = f"{type(error).__name__}: {_first_line(error)}"
        strings = "new" if torch.compiled_with_cxx11_abi() else "old"
        return (
            f"torchtext {_version('torchtext')} does not load with torch {torch.__version__} "
            f"({reason}); its binary is made for torch 2.3 and the old C++ strings (ABI), this "
            f"torch has the {strings} ones"
        )
    return None


@cache
def why_there_are_no_datasets() -> str | None:
    """Import what ``torchtext.datasets`` stands on.

    Returns:
        None where it works; else one line: why not, with the versions.
    """
    if (why := why_it_does_not_load()) is not None:
        return why
    try:
        with warnings.catch_warnings():  # that datapipes are to be removed, a page long
            warnings.simplefilter("ignore")
            for module in ("torchdata.datapipes.iter", "torchtext.datasets"):
                importlib.import_module(module)
    except Exception as error:
        return (
            f"torchtext's datasets need torchdata 0.7.1 to 0.9, the last with datapipes; of "
            f"torchdata {_version('torchdata')}: {type(error).__name__}: {_first_line(error)}"
        )
    if find_spec("portalocker") is None:
        return "torchtext's datasets need portalocker, which is not installed"
    return None


def bert_encoder(tokens: Sequence[str], *, lowercase: bool) -> Any:
    """Build torchtext's BERT tokenizer.

    Args:
        tokens: The vocabulary in the order of ids, as ``data.wordpiece.read_vocab`` checked it.
        lowercase: Whether text is lower-cased and stripped of accents.

    Returns:
        A ``torchtext.transforms.BERTTokenizer``: text -> ids, written out as text.
    """
    import torchtext

    torchtext.disable_torchtext_deprecation_warning()
    from torchtext.transforms import BERTTokenizer

    with tempfile.TemporaryDirectory(prefix="flava-vocab-") as folder:  # it reads only files
        path = Path(folder) / "vocab.txt"
        path.write_bytes(("\n".join(tokens) + "\n").encode())
        # never_split stays empty: a special token's name in a text is text
        return BERTTokenizer(str(path), do_lower_case=lowercase)


class Archive(NamedTuple):
    """What torchtext reads a split from.

    Attributes:
        path: Below the root, as torchtext's cache has it.
        url: Where it comes from.
        md5: Of the file.
        rows: Rows of the split, as torchtext states them.
    """

    path: Path
    url: str
    md5: str
    rows: int


def archives(task: str) -> Mapping[str, Archive]:
    """Say which archives a dataset is read from.

    Args:
        task: Name of the dataset's module, such as ``sst2``.

    Returns:
        An archive for each split.
    """
    module = importlib.import_module(f"torchtext.datasets.{task}")
    found = {}
    for split, rows in module.NUM_LINES.items():
        url, md5 = (
            each[split] if isinstance(each, dict) else each for each in (module.URL, module.MD5)
        )
        path = Path("datasets", module.DATASET_NAME, url.rpartition("/")[2])
        found[split] = Archive(path, url, md5, rows)
    return found


def read_rows(task: str, split: str, root: Path) -> list[tuple[Any, ...]]:
    """Read a split; torchtext downloads the archive where it is missing below ``root``.

    Args:
        task: Name of the dataset's module.
        split: A key of ``archives(task)``.
        root: Folder that the archive's path starts from. torchtext leaves extracted files there,
            and ``*.promise`` files where it fails.

    Returns:
        A row for each sample, its columns as torchtext orders them.

    Raises:
        ValueError: It cannot be read or downloaded.
    """
    import torchtext.datasets

    module = importlib.import_module(f"torchtext.datasets.{task}")
    build = getattr(torchtext.datasets, module.DATASET_NAME)
    options = {"split": split} if "split" in inspect.signature(build).parameters else {}
    try:
        return list(build(root=str(root), **options))
    except Exception as error:  # of any kind: it comes through a dozen of torchdata's pipes
        raise ValueError(
            f"torchtext cannot read {module.DATASET_NAME}, split {split}: "
            f"{type(error).__name__}: {_first_line(error)}"
        ) from error


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
