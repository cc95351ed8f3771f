"""What ``flava data`` is told to read: a folder, or a registered dataset with its options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


def check_out(path: Path, option: str = "--out") -> None:
    """Refuse a file that cannot be written for want of a folder.

    Args:
        path: The file.
        option: What names it on the command line.

    Raises:
        ValueError: Its folder is not there.
    """
    if not path.resolve().parent.is_dir():
        raise ValueError(f"{option} {path}: no such folder; make it first")
    if path.is_dir():
        raise ValueError(f"{option} {path}: is a folder; name a file in it")


def spare_source(
    path: Path, options: Mapping[str, Any], option: str = "--out", *, only_same: bool = False
) -> None:
    """Refuse to write over what is read, or into a folder that is read.

    Args:
        path: What is to be written.
        options: Of the dataset; every text in them that names a file or folder counts.
        option: What names the path on the command line.
        only_same: Whether a place below a folder that is read does no harm.

    Raises:
        ValueError: It would.
    """
    target = path.resolve()
    for name, value in options.items():
        for text in _texts_in(value):
            try:
                source = Path(text).resolve()
                below = name == "path" and not only_same and source in target.parents
                if (source == target or below) and source.exists():
                    raise ValueError(
                        f"{option} {path}: belongs to what is read ({name}={text}); name a place "
                        "outside of it"
                    )
            except OSError:  # too long for a path: no path
                continue


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if value and "\0" not in value:
            yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts_in(each)


def name_dataset(name: str, options: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Turn the words of a command line into a registered dataset's name and options.

    Args:
        name: A registered dataset; or a folder of indexed shards or of pictures.
        options: ``key=value`` each; values are YAML.

    Returns:
        Name and options, as a recipe has them.

    Raises:
        ValueError: An option is no ``key=value``, or the folder's shards have no index.
    """
    from flava_plugin import registry
    from flava_plugin.strict_yaml import parse

    given: dict[str, Any] = {}
    if "://" in name:
        raise ValueError(
            f"{name}: name the dataset of a URL: webdataset_pairs path={name} "
            "'cache={folder: COPIES}'"
        )
    if name not in registry.datasets.names() and Path(name).is_dir():
        name, given = _in_folder(Path(name)), {"path": name}
    elif name not in registry.datasets.names() and Path(name).is_file():
        raise ValueError(
            f"{name}: is a file; name the dataset that reads it, such as: jsonl_pairs path={name}"
        )
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or not key:
            raise ValueError(f"'{option}' is no key=value; write such as path=photos")
        try:
            given[key] = parse(value)
        except ValueError as error:
            raise ValueError(f"'{option}': {error}") from error
    return name, given


def build_dataset(name: str, options: dict[str, Any]) -> Any:
    """Build a registered dataset.

    Args:
        name: Its name.
        options: Its options.

    Returns:
        The dataset.

    Raises:
        ValueError: Anything is wrong with them, in one line.
    """
    from pydantic import ValidationError

    from flava_plugin import registry
    from flava_plugin.types import Dataset

    try:
        dataset = registry.datasets.build(name, **options)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ValueError(f"dataset {name}: {'; '.join(problems)}") from error
    except OSError as error:
        raise ValueError(f"dataset {name}: {error}") from error
    if not isinstance(dataset, Dataset):
        raise ValueError(f"dataset {name}: has no len and read(index); iterables are refused")
    if not len(dataset):
        raise ValueError(f"dataset {name}: is empty")
    return dataset


def open_dataset(name: str, options: Sequence[str]) -> Any:
    """Build a dataset from the words of a command line.

    Args:
        name: A registered dataset; or a folder of indexed shards or of pictures.
        options: ``key=value`` each.

    Returns:
        The dataset.

    Raises:
        ValueError: It cannot be built, in one line.
    """
    return build_dataset(*name_dataset(name, options))


def _in_folder(folder: Path) -> str:
    """The dataset that reads a folder."""
    from flava_plugin.data.shards import manifest

    listed = folder / manifest.NAME
    if listed.is_file():
        kind = manifest.decode_manifest(listed.read_bytes(), str(listed)).kind
        return {"pair": "webdataset_pairs", "image": "webdataset_images"}.get(
            kind, "webdataset_text"
        )
    if next(folder.rglob("*.tar"), None) is not None:
        raise ValueError(f"{folder}: its tars have no index; run: flava data index {folder}")
    return "image_folder"
