"""A run reads what was chosen and nothing else, keeps how it was chosen, and can choose itself."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_run import write_recipe

from flava_plugin import registry
from flava_plugin.cli.main import main
from flava_plugin.data.shards.shard_writer import ShardWriter


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pairs in three tars; every third has a score below the others'."""
    folder = tmp_path_factory.mktemp("shards")
    drawn = registry.datasets.build("shapes_pairs", size=24, seed=1)
    with ShardWriter(folder, "pair", samples_per_shard=8) as writer:
        for n in range(24):
            sample = drawn.read(n)
            file = io.BytesIO()
            sample.image.save(file, "PNG")
            score = {"clip": 0.1 if n % 3 == 0 else 0.5}
            writer.add(image=file.getvalue(), text=f"{sample.text} {n}", record=score)
    return folder


def recipe(folder: Path, dataset: dict[str, Any], **changes: Any) -> Path:
    path = write_recipe(folder, steps=3, **changes)
    import yaml

    data = yaml.safe_load(path.read_text())
    data["data"]["sources"] = {"pairs": {"modality": "pair", "share": 1.0, "dataset": dataset}}
    data["data"]["bad_samples"] = 0
    data["objectives"] = {n: o for n, o in data["objectives"].items() if o["modality"] == "pair"}
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def spoil(folder: Path, keep: set[int]) -> None:
    """Make every picture that is not kept unreadable, in its place."""
    every: Any = registry.datasets.build("webdataset_pairs", path=str(folder))
    for n in range(24):
        if n not in keep:
            image = every.read_raw(n).image
            tar = folder / every.manifest.name(n // 8)
            content = tar.read_bytes()
            tar.write_bytes(content.replace(image[8:], bytes(len(image) - 8), 1))


def test_only_kept_samples_are_read(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "curated"
    words = ["--score", "clip", "record=clip", "--step", "score", "score=clip", "min=0.3"]
    assert main(["data", "curate", str(shards), "--out", str(out), *words]) == 0
    spoil(shards, {n for n in range(24) if n % 3})
    dataset = {"type": "webdataset_pairs", "path": str(shards)}
    assert main(["train", str(recipe(tmp_path / "a", dataset))]) != 0  # they are missed
    chosen = dataset | {"selection": str(out / "selection.safetensors")}
    path = recipe(tmp_path / "b", chosen)
    assert main(["train", str(path)]) == 0
    source = json.loads((tmp_path / "b/run/data.json").read_text())["sources"]["pairs"]
    assert source["samples"] == 16
    made = json.loads((out / "curation.json").read_text())
    assert source["coverage"]["curation"] == made
    assert made["steps"][1]["min"] == 0.3


def test_any_dataset_through_a_selection_and_a_score_of_a_run(tmp_path: Path) -> None:
    shapes = {"type": "shapes_pairs", "size": 40}
    run = recipe(tmp_path / "a", shapes)
    assert main(["train", str(run)]) == 0
    words = ["--score", "ours", f"run={tmp_path / 'a/run'}", "--step", "score", "score=ours"]
    command = ["data", "curate", "shapes_pairs", "size=40", "--out", str(tmp_path / "c"), *words]
    assert main([*command, "share=0.5"]) == 0
    made = json.loads((tmp_path / "c/curation.json").read_text())
    assert made["kept"] == 20
    assert made["scores"]["ours"]["weights"].startswith("run-")

    import flava_plugin
    from flava_plugin.types import Sample

    every = registry.datasets.build("shapes_pairs", size=40)
    samples: list[Sample] = [every.read(n) for n in range(40)]
    model = flava_plugin.load(tmp_path / "a/run")
    images = model.encode_image([s.image for s in samples])
    cosines = (images * model.encode_text([s.text for s in samples])).sum(1).numpy()
    path = tmp_path / "c/selection.safetensors"
    some = registry.datasets.build("selected", dataset=shapes, selection=str(path))
    assert len(some) == 20
    best = np.sort(np.argsort(-cosines)[:20])
    for n, place in enumerate(best.tolist()):
        assert some.read(n).text == samples[place].text
        assert np.array_equal(np.asarray(some.read(n).image), np.asarray(samples[place].image))
    nested = {"type": "selected", "dataset": shapes, "selection": str(path)}
    assert main(["train", str(recipe(tmp_path / "b", nested))]) == 0
    source = json.loads((tmp_path / "b/run/data.json").read_text())["sources"]["pairs"]
    assert (source["samples"], source["coverage"]["curation"]["kept"]) == (20, 20)
    with pytest.raises(ValueError, match="other shards"):
        registry.datasets.build(
            "selected", dataset={"type": "shapes_pairs", "size": 41}, selection=str(path)
        )
    assert isinstance(samples[0].image, Image.Image)
