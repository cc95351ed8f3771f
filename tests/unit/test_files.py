"""Datasets of files: real photographs that ship inside installed packages, and broken inputs."""

import json
import shutil
from importlib.metadata import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flava_plugin import registry
from flava_plugin.data.pictures import to_rgb
from flava_plugin.types import Dataset

WAY_OUT = "its photographs are read: pip install '.[dev]'"
skimage = pytest.importorskip("skimage", reason=WAY_OUT)
sklearn = pytest.importorskip("sklearn", reason=WAY_OUT)
matplotlib = pytest.importorskip("matplotlib", reason=WAY_OUT)

PHOTOGRAPHS = {
    "astronaut.png": "an astronaut in an orange suit smiles before a flag",
    "camera.png": "a man in a coat looks through a camera on a tripod",
    "chelsea.png": "the face of a striped cat with green eyes",
    "coffee.png": "a cup of coffee and a spoon on a wooden table",
    "rocket.jpg": "a rocket on its launch pad in the evening",
    "hubble_deep_field.jpg": "many small galaxies in the dark of deep space",
    "china.jpg": "a chinese pagoda with curved roofs under a blue sky",
    "flower.jpg": "a red and yellow flower between green leaves",
    "grace_hopper.jpg": "a woman in a navy uniform with a cap",
    "logo2.png": "the word matplotlib beside a colorful round chart",
}


def source(name: str) -> Path:
    folders = (
        Path(skimage.__file__).parent / "data",
        Path(sklearn.__file__).parent / "datasets" / "images",
        Path(matplotlib.get_data_path()) / "sample_data",
    )
    return next(folder / name for folder in folders if (folder / name).is_file())


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    rows = []
    for name, caption in PHOTOGRAPHS.items():
        shutil.copy(source(name), tmp_path / "pictures" / name)
        rows.append({"image": f"pictures/{name}", "caption": caption})
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return tmp_path


def build(name: str, **options: Any) -> Dataset:
    dataset: Dataset = registry.datasets.build(name, **options)
    return dataset


def test_real_photographs_with_captions(photographs: Path) -> None:
    pairs = build("jsonl_pairs", path=photographs / "pairs.jsonl")
    assert isinstance(pairs, Dataset) and len(pairs) == len(PHOTOGRAPHS)
    modes = set()
    for index, (name, caption) in enumerate(PHOTOGRAPHS.items()):
        sample = pairs.read(index)
        assert sample.image is not None and sample.text == caption
        modes.add(sample.image.mode)
        pixels = np.asarray(to_rgb(sample.image))
        assert pixels.shape[2] == 3 and pixels.std() > 10, name
    assert {"RGB", "RGBA", "L"} <= modes


def test_several_captions_and_other_keys(photographs: Path) -> None:
    rows = [
        {"file": "china.jpg", "texts": ["a temple", "a roof"]},
        {"file": "flower.jpg", "texts": "eine Blüte"},
    ]
    path = photographs / "other.jsonl"
    text = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("\ufeff" + text, encoding="utf-8")
    images = photographs / "pictures"
    keys = {"image_key": "file", "caption_key": "texts"}
    pairs = build("jsonl_pairs", path=path, images=images, **keys)
    read = [pairs.read(index) for index in range(len(pairs))]
    assert [sample.text for sample in read] == ["a temple", "a roof", "eine Blüte"]
    assert [sample.extra["picture"] for sample in read] == [1, 1, 3]
    assert pairs.read(-1).text == "eine Blüte"
    with pytest.raises(IndexError):
        pairs.read(3)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{'image': 1}", r"pairs.jsonl:2: no JSON object"),
        ('{"image": "a.png"}', r":2: has no 'caption' but keys 'image'; set image_key"),
        ("[1, 2]", r":2: has no 'image' but \[1, 2\]"),
        ('{"image": "a.png", "caption": 3}', r":2: 'caption' is neither"),
        ('{"image": "a.png", "caption": ["x", 3]}', r":2: 'caption' is neither"),
        ('{"image": "a.png", "caption": " "}', r":2: 'caption' holds an empty"),
        ('{"image": "a.png", "caption": []}', r":2: 'caption' holds an empty"),
        ('{"image": 7, "caption": "x"}', r":2: 'image' is 7"),
        ('{"image": "", "caption": "x"}', r":2: 'image' is ''"),
        ('{"image": "/etc/a.png", "caption": "x"}', r":2: .* inside the folder"),
        ('{"image": "../a.png", "caption": "x"}', r":2: .* inside the folder"),
        ('{"image": "a/../../a.png", "caption": "x"}', r":2: .* inside the folder"),
        (r'{"image": "..\\a.png", "caption": "x"}', r":2: .* inside the folder"),
        (r'{"image": "C:\\a.png", "caption": "x"}', r":2: .* inside the folder"),
        (r'{"image": "a\u0000.png", "caption": "x"}', r":2: .* inside the folder"),
        ("[" * 100_000, r":2: no JSON object"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(tmp_path: Path, line: str, told: str) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"image": "a.png", "caption": "x"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=told):
        build("jsonl_pairs", path=path)


def test_missing_pictures_and_empty_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n \n")
    with pytest.raises(ValueError, match="holds no pairs"):
        build("jsonl_pairs", path=path)
    path.write_text('{"image": "a.png", "caption": "x"}\n')
    with pytest.raises(ValueError, match=r"pairs.jsonl:1: no picture .*a.png; set images:"):
        build("jsonl_pairs", path=path)
    with pytest.raises(ValueError, match="no such file"):
        build("jsonl_pairs", path=tmp_path)
    path.write_bytes(b'{"image": "\xff.png", "caption": "x"}\n')
    with pytest.raises(ValueError, match=r"pairs.jsonl:1: no JSON object"):
        build("jsonl_pairs", path=path)


def test_folder_of_pictures(photographs: Path) -> None:
    folder = build("image_folder", path=photographs)
    assert len(folder) == len(PHOTOGRAPHS)
    assert folder.class_names == ("pictures",)  # type: ignore[attr-defined]
    flat = build("image_folder", path=photographs / "pictures")
    assert flat.class_names == () and flat.read(0).extra == {}  # type: ignore[attr-defined]
    sizes = [sample.image.size for sample in map(flat.read, range(len(flat))) if sample.image]
    assert len(set(sizes)) > 5
    only = build("image_folder", path=photographs, extensions=[".JPG"])
    assert len(only) == sum(name.endswith(".jpg") for name in PHOTOGRAPHS)


def test_classes_are_the_topmost_folders(tmp_path: Path) -> None:
    for number, name in enumerate(("dog/a.png", "cat/b.PNG", "cat/deep/c.jpeg", ".hidden.png")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (3 + number, 4)).save(tmp_path / name)
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    folder = build("image_folder", path=tmp_path)
    assert folder.class_names == ("cat", "dog")  # type: ignore[attr-defined]
    read = [folder.read(index) for index in range(len(folder))]
    assert [sample.extra["class"] for sample in read] == [0, 0, 1]
    assert [sample.image.size[0] for sample in read if sample.image] == [4, 5, 3]


def test_a_broken_picture_fails_where_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    folder = build("image_folder", path=tmp_path)
    with pytest.raises(OSError, match="cannot identify"):
        folder.read(0)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no pictures"):
        build("image_folder", path=tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        build("image_folder", path=tmp_path / "none")


def test_lines_of_the_licences_of_installed_packages(tmp_path: Path) -> None:
    written: list[str] = []
    for package in ("torch", "numpy", "pillow", "scikit-learn"):
        for file in files(package) or []:
            located = Path(str(file.locate()))
            if "licen" in file.name.lower() and located.is_file() and len(written) < 6:
                name = f"{len(written):02}-{package}.txt"
                text = located.read_text(encoding="utf-8", errors="replace")
                (tmp_path / name).write_text(text, encoding="utf-8", newline="\n")
                written += [text]
    wanted = [line.strip() for text in written for line in text.split("\n") if line.strip()]
    lines = build("text_lines", path=tmp_path)
    assert isinstance(lines, Dataset) and len(lines) == len(wanted) > 100
    chosen = [*range(0, len(wanted), 7), len(wanted) - 1]
    assert [lines.read(index).text for index in chosen] == [wanted[index] for index in chosen]
    assert lines.read(-1).text == wanted[-1]
    with pytest.raises(IndexError):
        lines.read(len(wanted))


def test_odd_text_files(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\r\n\r\n  two \n\nthree".encode())
    lines = build("text_lines", path=path)
    assert [lines.read(index).text for index in range(len(lines))] == ["one", "two", "three"]
    path.write_bytes(b"fine\n\xff\xfe\n")
    with pytest.raises(ValueError, match=r"a.txt: the line at byte 5 is no UTF-8"):
        build("text_lines", path=path).read(1)
    path.write_bytes(b"\n \n")
    with pytest.raises(ValueError, match="holds no text"):
        build("text_lines", path=path)
    with pytest.raises(ValueError, match=r"no \*.txt file"):
        build("text_lines", path=tmp_path)
    with pytest.raises(ValueError, match="no such file or folder"):
        build("text_lines", path=tmp_path / "none")
