"""The embedded data: determinism, true captions, false negatives, nothing unseen in training."""

import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from flava_plugin import registry
from flava_plugin.components.datasets.shapes_pairs import subsets
from flava_plugin.components.datasets.shapes_questions import ANSWERS, KINDS, ask, suppose
from flava_plugin.components.datasets.shapes_render import render
from flava_plugin.components.datasets.shapes_scene import (
    COLORS,
    SEEN,
    SHAPES,
    SIDE,
    UNSEEN,
    combinations,
    draw_scene,
    facts,
    generator,
)
from flava_plugin.components.datasets.shapes_stream import open_stream
from flava_plugin.types import Dataset, Sample

NAMES = (
    "shapes_pairs",
    "shapes_images",
    "shapes_sentences",
    "shapes_questions",
    "shapes_entailment",
)
HIDDEN = {f"{COLORS[c]} {SHAPES[s]}" for c, s in UNSEEN["dev"] + UNSEEN["publish"]}


def build(name: str, **options: object) -> Dataset:
    dataset: Dataset = registry.datasets.build(name, **options)
    return dataset


def digest(sample: Sample) -> str:
    pixels = sample.image.tobytes() if sample.image else b""
    words = repr((sample.text, sample.negative_text, sorted(sample.extra.items())))
    return hashlib.sha256(pixels + words.encode()).hexdigest()


def test_combinations_are_kept_apart_and_spread_out() -> None:
    assert len(set(SEEN)) == 36
    for split in ("dev", "publish"):
        assert len(UNSEEN[split]) == 6
        assert {shape for _, shape in UNSEEN[split]} == set(range(6))
        assert len({color for color, _ in UNSEEN[split]}) == 6
    assert not set(UNSEEN["dev"]) & set(UNSEEN["publish"])
    assert not set(SEEN) & set(UNSEEN["dev"] + UNSEEN["publish"])
    assert min(Counter(color for color, _ in SEEN).values()) >= 4
    assert min(Counter(shape for _, shape in SEEN).values()) >= 6


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_a_function_of_seed_split_and_index(name: str) -> None:
    first, again = build(name), build(name)
    assert isinstance(first, Dataset)
    read = [digest(first.read(i)) for i in range(20)]
    assert read == [digest(again.read(i)) for i in reversed(range(20))][::-1]
    assert read != [digest(build(name, seed=1).read(i)) for i in range(20)]
    assert read != [digest(build(name, split="dev").read(i)) for i in range(20)]
    with pytest.raises(IndexError):
        build(name, size=5).read(5)


def test_samples_are_the_same_in_processes_with_other_hash_seeds() -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_shapes import NAMES, build, digest\n"
        "for name in NAMES:\n"
        "    for split in ('train', 'publish'):\n"
        "        print([digest(build(name, split=split).read(i)) for i in range(8)])\n"
        "gallery = build('shapes_pairs', split='dev', distinct=True, full_captions=True, size=40)\n"
        "print(digest(gallery.read(39)))\n"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "271")
    }
    assert len(printed) == 1 and len(printed.pop()) > 1000


@pytest.mark.parametrize("variant", ["plain", "grid"])
def test_no_training_stream_names_an_unseen_combination(variant: str) -> None:
    for name in ("shapes_pairs", "shapes_sentences", "shapes_questions", "shapes_entailment"):
        dataset = build(name, variant=variant)
        for index in range(3000 if name != "shapes_pairs" or variant == "plain" else 1000):
            sample = dataset.read(index)
            for text in filter(None, (sample.text, sample.negative_text)):
                assert not any(hidden in text for hidden in HIDDEN), text


@pytest.mark.parametrize("stream", ["pairs", "images", "questions", "entailment"])
def test_no_training_picture_shows_an_unseen_combination(stream: str) -> None:
    source = open_stream(stream, "train", 3000, 0, "plain")
    shown = Counter(
        thing.combination
        for index in range(3000)
        for thing in source.draw(source.generator(index)).things
    )
    assert set(shown) == set(SEEN)
    assert max(shown.values()) < 2 * min(shown.values())


def test_unseen_pictures() -> None:
    some = open_stream("images", "dev", 500, 0, "plain")
    drawn = [some.draw(some.generator(i)) for i in range(500)]
    assert all({t.combination for t in scene.things} & set(UNSEEN["dev"]) for scene in drawn)
    assert not any({t.combination for t in s.things} & set(UNSEEN["publish"]) for s in drawn)
    images = build("shapes_images", split="publish", objects=1, unseen="all", size=300)
    labels = Counter(images.read(i).extra["class"] for i in range(300))
    assert set(labels) == {color * 6 + shape for color, shape in UNSEEN["publish"]}
    assert images.class_names[7] == "green square" and len(images.class_names) == 48  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="training streams never show"):
        build("shapes_images", unseen="some")


def test_things_are_where_they_are_said_to_be_and_fit_their_cells() -> None:
    for index in range(300):
        rng = generator("pairs", "train", 3, index)
        scene = draw_scene(rng, SEEN, variant=("plain", "grid")[index % 2])
        assert len({(t.row, t.column) for t in scene.things}) == len(scene.things) <= 3
        assert len({t.combination for t in scene.things}) == len(scene.things)
        for thing in scene.things:
            assert abs(thing.x - 16 * thing.column - 8) <= 1
            assert abs(thing.y - 16 * thing.row - 8) <= 1


def test_a_picture_shows_the_color_of_its_thing_in_its_cell() -> None:
    images = build("shapes_images", objects=1, split="dev", unseen="none", size=400)
    source = images.stream  # type: ignore[attr-defined]
    for index in range(100):
        picture = images.read(index).image
        assert picture is not None and picture.size == (SIDE, SIDE) and picture.mode == "RGB"
        pixels = np.asarray(picture).astype(int)
        scene = source.draw(source.generator(index))
        y, x = np.unravel_index(pixels.max(-1).argmax(), (SIDE, SIDE))
        assert (y // 16, x // 16) == (scene.things[0].row, scene.things[0].column)
        assert np.array_equal(pixels, np.asarray(render(scene)))


def test_a_gallery_has_one_right_caption_per_picture() -> None:
    options = {"split": "publish", "distinct": True, "full_captions": True, "size": 256}
    gallery = build("shapes_pairs", **options)
    captions = [gallery.read(index).text for index in reversed(range(256))]
    assert len(set(captions)) == 256
    rows = [gallery._row(index) for index in range(256)]  # type: ignore[attr-defined]
    source = gallery.stream  # type: ignore[attr-defined]
    told = [facts(source.draw(gallery._row_generator(row))) for row in rows]  # type: ignore[attr-defined]
    # a full caption is true of every scene that holds all it tells
    for index, own in enumerate(told):
        assert [other for other, scene in enumerate(told) if own <= scene] == [index]
    assert len(subsets(told[0])) == 2 ** len(told[0]) - 1


def test_a_gallery_that_cannot_be_distinct_is_refused() -> None:
    options = {"split": "dev", "objects": 1, "unseen": "all", "full_captions": True}
    gallery = build("shapes_pairs", distinct=True, size=60, **options)
    with pytest.raises(ValueError, match="ask for a smaller size"):
        gallery.read(59)  # there are 6 combinations in 9 places


def test_questions_have_the_answer_they_are_given() -> None:
    pool = combinations("train", "none")
    yes: Counter[tuple[str, str]] = Counter()
    for index in range(1500):
        rng = generator("questions", "train", 5, index)
        scene = draw_scene(rng, pool)
        question = ask(scene, rng, pool, KINDS[index % 5])
        if question is None:
            continue
        answer, kind = ANSWERS[question.answer], KINDS[question.kind]
        things = scene.things
        if kind == "count":
            assert answer == str(len(things))
        elif kind in ("color", "shape"):
            names = {(COLORS if kind == "color" else SHAPES)[getattr(t, kind)] for t in things}
            assert answer in names
        else:
            yes[kind, answer] += 1
            if kind == "existence":
                told = [f"{COLORS[t.color]} {SHAPES[t.shape]}" for t in things]
                assert (answer == "yes") == any(name in question.text for name in told)
    assert all(yes[kind, "yes"] > 60 < yes[kind, "no"] for kind in ("existence", "relation"))


def test_questions_come_in_equal_shares_and_only_of_the_kind_asked_for() -> None:
    asked = build("shapes_questions")
    kinds = Counter(asked.read(i).extra["kind_name"] for i in range(500))
    assert set(kinds) == set(KINDS) and min(kinds.values()) > 60
    colors = build("shapes_questions", kind="color", split="publish")
    for index in range(100):
        extra = colors.read(index).extra
        assert extra["kind"] == 0 and extra["answer_name"] in COLORS
        assert ANSWERS[extra["answer"]] == extra["answer_name"]


def test_hypotheses_come_in_equal_shares() -> None:
    labels: Counter[int] = Counter()
    for index in range(900):  # suppose() itself checks each label
        rng = generator("entailment", "train", 0, index)
        labels[suppose(draw_scene(rng, SEEN), rng, SEEN, "grid")[1]] += 1
    assert min(labels.values()) > 240


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("shapes_pairs", {"split": "test"}, "split"),
        ("shapes_pairs", {"size": 0}, "size"),
        ("shapes_pairs", {"seed": -1}, "seed"),
        ("shapes_pairs", {"seed": True}, "seed"),
        ("shapes_images", {"objects": 4}, "objects"),
        ("shapes_questions", {"kind": "colour"}, "kind"),
    ],
)
def test_impossible_options_are_refused(name: str, options: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        build(name, **options)
