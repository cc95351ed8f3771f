"""Sets joined as PMD joins its nine, ImageNet's tree, and recipes that name them."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from data_stubs import Pairs
from published_trees import TREES, imagenet, picture

from flava_plugin import registry
from flava_plugin.components.datasets import pmd as pmd_module
from flava_plugin.components.datasets.pmd import PAPER, JoinedPairs
from flava_plugin.recipe import RecipeError, load_recipe
from flava_plugin.types import Dataset


def build(name: str, **options: Any) -> Any:
    return registry.datasets.build(name, **options)


def nine(folder: Path) -> dict[str, dict[str, Any]]:
    trees = {name: make(folder / name)[0] for name, make in TREES.items()}
    return {
        name: {"type": name, **{key: str(value) for key, value in options.items()}}
        for name, options in trees.items()
    }


def test_the_nine_sources_as_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sources = nine(tmp_path)
    with caplog.at_level(logging.INFO):
        joined = build("pmd", sources=sources)
    assert isinstance(joined, Dataset)
    alone = {
        name: build(spec["type"], **{k: v for k, v in spec.items() if k != "type"})
        for name, spec in sources.items()
    }
    expected = [
        (name, each.read_text(n), each.path(n).read_bytes())
        for name, each in alone.items()
        for n in range(len(each))
    ]
    assert len(joined) == len(expected) == joined.shard_lengths.sum()
    for index, (name, text, data) in enumerate(expected):
        sample, raw = joined.read(index), joined.read_raw(index)
        assert sample.extra == {"source": name} and raw.extra["source"] == name
        assert sample.text == raw.text == joined.read_text(index) == text and raw.image == data
    order = np.random.default_rng(0).permutation(len(joined))
    sizes = joined.text_sizes(order)
    assert sizes.tolist() == [len(expected[n][1].encode()) for n in order.tolist()]
    assert joined.coverage["cc3m"]["dropped"] == {"no picture": 1}
    assert joined.coverage["cc3m"]["paper_pairs"] == 3_100_000
    assert joined.coverage["cc3m"]["share_of_paper"] == round(7 / 3.1e6, 4)
    assert "cc3m: 7 pairs, 0.0% of the paper's 3,100,000; left out: 1 no picture" in caplog.text
    assert "of the paper's nine there are not: none" in caplog.text
    assert pickle.loads(pickle.dumps(joined)).text_sizes(order).tolist() == sizes.tolist()
    assert build("pmd", sources=sources).fingerprint == joined.fingerprint
    Path(alone["sbu"].path(0)).unlink()
    assert build("pmd", sources=sources).fingerprint != joined.fingerprint


def test_the_papers_table() -> None:
    assert sum(PAPER.values()) == pytest.approx(70e6, rel=0.01)
    assert set(PAPER) == set(TREES)


class Shards(Pairs):
    """Pairs in shards of four, which note what is expected."""

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.shard_lengths = np.array([4] * (length // 4), dtype=np.int64)
        self.expected: list[int] = []

    def expect(self, shards: list[int]) -> None:
        self.expected += shards

    def neighbours(self, index: int) -> range:
        return range(index - index % 4, index - index % 4 + 4)

    def take_incidents(self) -> dict[str, int]:
        return {"request failed": len(self.expected)}


def test_shards_and_stretches_keep_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pmd_module, "PSEUDO_SHARD", 3)
    first, last = Shards(8), Shards(12)
    parts = {"first": first, "plain": Pairs(7), "last": last}
    joined = JoinedPairs(parts, dict.fromkeys(parts, "in_memory"))
    assert joined.shard_lengths.tolist() == [4, 4, 3, 3, 1, 4, 4, 4]
    ends = np.cumsum(joined.shard_lengths)
    for index in range(len(joined)):
        near = joined.neighbours(index)
        shard = int(np.searchsorted(ends, index, side="right"))
        assert near == range(int(ends[shard] - joined.shard_lengths[shard]), int(ends[shard]))
    joined.expect([1, 3, 5, 7])
    assert (first.expected, last.expected) == ([1], [0, 2])
    assert joined.take_incidents() == {"request failed": 3}
    assert not hasattr(joined, "text_sizes")  # one part cannot tell
    assert joined.read(8).extra == {"source": "plain"}
    assert joined.read_raw(8).extension == "png"  # drawn, not read
    with pytest.raises(IndexError):
        joined.read(27)


RECIPE = """
sources:
  pairs:
    modality: pair
    share: 1
    dataset:
      type: pmd
      sources:
        narratives: {type: localized_narratives, path: PATH, images: PATH, sentence: true}
        own: {type: cc3n, path: PATH}
        tables: {type: cc3m, path: gone.tsv, images: PATH, names: rows}
        joined: {type: pmd, sources: {a: {type: sbu, path: PATH, imags: PATH}}}
"""


def test_typos_inside_are_refused_when_the_recipe_is_read(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as refused:
        recipe_of(tmp_path, RECIPE)
    told = str(refused.value)
    where = "data.sources.pairs.dataset.sources"
    assert f"{where}.narratives.sentence: unknown key; did you mean 'sentences'?" in told
    assert f"{where}.own.type: no dataset named 'cc3n'; did you mean 'cc3m'?" in told
    assert f"{where}.tables.path: 'gone.tsv' does not exist" in told
    assert f"{where}.tables.names: is no rule for names" in told
    assert f"{where}.joined.sources.a.imags: unknown key; did you mean 'images'?" in told


def test_defaults_inside_are_written_out(tmp_path: Path) -> None:
    table = "narratives: {type: localized_narratives, path: PATH, images: PATH}"
    recipe = recipe_of(tmp_path, RECIPE.split("narratives:")[0] + table + "\n")
    plain = recipe.model_dump(mode="json")["data"]["sources"]["pairs"]["dataset"]
    assert plain["sources"]["narratives"]["sentences"] is True
    assert plain["sources"]["narratives"]["missing"] == "drop"
    with pytest.raises(ValueError, match=r"sources.narratives: .*holds no file of \*.jsonl"):
        build(**{"name": "pmd", "sources": plain["sources"]})


def recipe_of(folder: Path, sources: str) -> Any:
    text = sources.replace("PATH", str(folder))
    shown = load_recipe("pretrain/shapes").model_dump(mode="json")
    shown["data"]["sources"] = yaml.safe_load(text)["sources"]
    shown["objectives"] = {
        name: each for name, each in shown["objectives"].items() if each["modality"] == "pair"
    }
    shown["evaluate"] = {}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(shown), "utf-8")
    return load_recipe(str(path))


def test_imagenets_tree(tmp_path: Path) -> None:
    path = imagenet(tmp_path / "imagenet")
    dataset = build("imagenet", path=path, split="val")
    assert len(dataset) == 6
    assert dataset.class_names == ("n01440764", "n02084071", "n03000684")
    assert [dataset.read(n).extra["class"] for n in range(6)] == [0, 0, 1, 1, 2, 2]
    assert dataset.read_raw(0).extension == "jpg"
    names = tmp_path / "LOC_synset_mapping.txt"
    names.write_text("n03000684 chain saw\nn01440764 tench, Tinca\nn02084071 dog\n", "utf-8")
    named = build("imagenet", path=path, class_names=names)
    assert named.class_names == ("tench, Tinca", "dog", "chain saw")
    assert [named.read(n).extra["class"] for n in range(6)] == [0, 0, 1, 1, 2, 2]
    names.write_text("tench\ndog\nchain saw\n", "utf-8")
    assert build("imagenet", path=path, class_names=names).class_names[2] == "chain saw"
    names.write_text("tench\n", "utf-8")
    with pytest.raises(ValueError, match="1 names for 3 classes"):
        build("imagenet", path=path, class_names=names)


def test_a_flat_folder_is_no_imagenet(tmp_path: Path) -> None:
    picture(tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(ValueError, match="lie in it directly; sort the pictures"):
        build("imagenet", path=tmp_path, split="val")
    picture(tmp_path / "train" / "cats" / "1.JPEG")
    with pytest.raises(ValueError, match="'cats' is none"):
        build("imagenet", path=tmp_path)


def test_null_leaves_a_source_out(tmp_path: Path) -> None:
    sources = nine(tmp_path)
    two = {name: sources[name] for name in ("cc3m", "sbu")}
    joined = build("pmd", sources={name: two.get(name) for name in sources})
    assert joined.names == tuple(name for name in sources if name in two)
    assert set(joined.coverage) == set(two)
    with pytest.raises(ValueError, match="all are null"):
        build("pmd", sources=dict.fromkeys(sources))
