"""Files as the world has them: nothing is read twice, nothing is left out unsaid."""

from __future__ import annotations

import errno
import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flava_plugin import registry
from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.layouts import picture_folder
from flava_plugin.data.layouts.picture_folder import PictureFolder, picture_bytes
from flava_plugin.data.raw_reading import look_at
from tests.unit.picture_trees import captioned
from tests.unit.published_trees import cc3m


def build(name: str, **options: object) -> Any:
    return registry.datasets.build(name, **{key: str(value) for key, value in options.items()})


def test_a_table_beside_its_compressed_self_is_not_read_twice(tmp_path: Path) -> None:
    options, _ = cc3m(tmp_path)
    table = next(tmp_path.rglob("*.tsv"))
    (table.parent / f"{table.name}.gz").write_bytes(gzip.compress(table.read_bytes()))
    with pytest.raises(ValueError, match="holds the same lines; take one of them away"):
        build("cc3m", path=table.parent, images=options["images"])
    assert len(build("cc3m", path=table, images=options["images"]))


def test_an_empty_list_of_captions_is_counted(tmp_path: Path) -> None:
    path = captioned(tmp_path, 2)
    path.write_text(path.read_text("utf-8") + '{"image": "000.jpg", "caption": []}\n', "utf-8")
    assert build("manifest_pairs", path=path).coverage["dropped"] == {"no text": 1}


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_a_disk_that_fails_has_not_lost_its_pictures(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = captioned(tmp_path, 2)

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(picture_folder.os, "listdir", fail)
        with pytest.raises(ValueError, match="cannot be listed"):
            build("manifest_pairs", path=path)
    pairs = build("manifest_pairs", path=path)
    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(OSError, match=r"\[Errno"):
        pairs.read_raw(0)
    if number == errno.ESTALE:
        with pytest.raises(OSError, match=r"\[Errno"):
            look_at(pairs, 0, "pair", decoded=False)
    else:
        assert look_at(pairs, 0, "pair", decoded=False).reason


def test_names_too_long_for_a_folder_are_no_pictures(tmp_path: Path) -> None:
    path = captioned(tmp_path, 1)
    rows = [{"image": f"{'a' * 300}/b.jpg", "caption": "x"}, {"image": "000.jpg/b", "caption": "x"}]
    path.write_text(path.read_text("utf-8") + "\n".join(map(json.dumps, rows)), "utf-8")
    assert build("manifest_pairs", path=path).coverage["dropped"] == {"no picture": 2}
    with pytest.raises(DamagedSampleError, match="no picture"):
        picture_bytes(tmp_path)


def test_folders_that_are_not_there_do_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_folder, "_MOST_NAMES", 100)
    folder = PictureFolder(tmp_path)
    assert not any(folder.has(f"{number:04d}/a.jpg") for number in range(1000))
    assert len(folder._listings) <= 100


def test_a_line_of_many_captions_and_one_of_a_huge_number(tmp_path: Path) -> None:
    path = captioned(tmp_path, 1)
    path.write_text(json.dumps({"image": "000.jpg", "caption": ["a", "b"] * 40_000}), "utf-8")
    pairs = build("jsonl_pairs", path=path)
    assert len(pairs) == 80_000 and pairs.read_text(79_999) == "b"
    path.write_text('{"image": "000.jpg", "caption": "a", "n": ' + "9" * 5000 + "}", "utf-8")
    with pytest.raises(ValueError, match=r"captions\.jsonl:1: no JSON object"):
        build("jsonl_pairs", path=path)


def test_parquet_whose_texts_are_none(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")

    def write(**columns: Any) -> None:
        arrow.parquet.write_table(arrow.table(columns), tmp_path / "a.parquet")

    for values in ([1, 2], [["a"], ["b"]]):
        write(text=values)
        with pytest.raises(ValueError, match=r"a\.parquet: column 'text' holds .*no texts"):
            build("text_files", path=tmp_path)
    write(text=arrow.array(["one two", "three"]).dictionary_encode())
    assert build("text_files", path=tmp_path).read_text(0) == "one two three"
    broken = arrow.array([b"fine", b"\xff\xfe"]).view(arrow.string())
    write(text=broken, image=[b"a", b"b"])
    with pytest.raises(ValueError, match=r"a\.parquet: row group 0, column 'text'"):
        build("text_files", path=tmp_path)
    pairs = build("hf_pairs", path=tmp_path)
    assert pairs.text_sizes(np.array([0, 1])).tolist() == [4, 2]
    with pytest.raises(DamagedSampleError, match=r"not UTF-8: .*a\.parquet: row 1"):
        pairs.read_text(1)
