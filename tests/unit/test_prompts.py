"""Prompts from a file and from an installed package's lists, and what is refused."""

import json
import sys
from pathlib import Path

import pytest

from flava_plugin.evaluate.prompts import read_prompts
from flava_plugin.evaluate.zero_shot import zero_shot
from flava_plugin.schema import Component

SHAPES = Component(type="shapes_images", size=4, objects=1)


def written(folder: Path, content: object) -> str:
    path = folder / "prompts.json"
    path.write_text(json.dumps(content), "utf-8")
    return str(path)


def test_a_file_names_classes_and_templates(tmp_path: Path) -> None:
    path = written(tmp_path, {"classes": ["cat", "dog"], "templates": ["a {}", "the {c}."]})
    assert read_prompts(path) == (["cat", "dog"], ["a {}", "the {}."])


def test_the_datasets_names_give_way_to_the_files(tmp_path: Path) -> None:
    path = written(tmp_path, {"templates": ["look, {}"]})
    task = zero_shot(dataset=SHAPES, prompts=path)
    assert task.templates == ["look, {}"] and len(task.class_names) == 48
    path = written(tmp_path, {"classes": ["one", "two"]})
    with pytest.raises(ValueError, match="2 names for the 48 classes"):
        zero_shot(dataset=SHAPES, prompts=path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([], "no object of classes"),
        ({}, "no object of classes"),
        ({"names": ["x"]}, "no object of classes"),
        ({"classes": []}, "classes is no list of texts"),
        ({"classes": ["x", 3]}, "classes is no list of texts"),
        ({"templates": ["a photo"]}, "has no {} for the class name"),
        ({"templates": ["{} and {}"]}, "has no {} for the class name"),
        ({"templates": ["{0.__class__} {}"]}, "has no {} for the class name"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, content: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        read_prompts(written(tmp_path, content))


def test_no_file_and_no_package_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no readable JSON file"):
        read_prompts(str(tmp_path / "none.json"))


def test_an_installed_packages_lists_are_read_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "clip_benchmark"
    about = tmp_path / "clip_benchmark-9.9.dist-info"
    home.mkdir()
    about.mkdir()
    (home / "__init__.py").write_text("raise ImportError('imported')")
    (home / "en_classnames.json").write_text('{"tiny": ["cat", "dog"]}')
    (home / "en_zeroshot_classification_templates.json").write_text(
        '{"tiny": ["a {c}"], "other": ["the {c}"]}'
    )
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: clip-benchmark\nVersion: 9.9\n")
    files = [*home.iterdir(), about / "METADATA"]
    (about / "RECORD").write_text("".join(f"{f.relative_to(tmp_path)},,\n" for f in files))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert read_prompts("clip_benchmark/tiny") == (["cat", "dog"], ["a {}"])
    assert read_prompts("clip_benchmark/other") == (None, ["the {}"])
    with pytest.raises(ValueError, match="has no 'big'; it has other, tiny"):
        read_prompts("clip_benchmark/big")


def test_names_of_another_label_may_be_fewer_than_the_classes() -> None:
    task = zero_shot(dataset=SHAPES, label="color", class_names=["red", "green", "blue"])
    assert task.class_names == ["red", "green", "blue"]
