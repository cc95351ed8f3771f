"""VQAv2, SNLI-VE, Hateful Memes and Karpathy's splits, as published and damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from published_trees import picture, write_json
from task_trees import json_lines, karpathy, memes, snli_ve, vqa

from flava_plugin import registry
from flava_plugin.data.answers import frequent_answers, soft_targets
from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.vqa_answers import vqa_accuracy


def build(name: str, **options: Any) -> Any:
    return registry.datasets.build(name, **options)


def test_questions_with_soft_scores(tmp_path: Path) -> None:
    dataset = build("vqav2", path=vqa(tmp_path), split="val", seen=2)
    assert dataset.answers == ["yes", "2 dogs"]  # four questions and two
    assert len(dataset) == 3
    sample = dataset.read(1)
    assert sample.text == dataset.read_text(1) == "what is it 1 ?"
    assert sample.image.filename.endswith("val2014/COCO_val2014_000000000012.jpg")
    # three of ten said "2 dogs" once spelt alike, six "yes"
    assert sample.extra["answers"] == pytest.approx([1.0, 0.9])
    assert sample.extra["question_id"] == 11001
    ten = dataset.ten_answers(1)
    assert len(ten) == 10 and ten[0] == "Two dogs."
    for answer, score in zip(dataset.answers, sample.extra["answers"], strict=True):
        assert score == pytest.approx(vqa_accuracy(answer, ten))
    assert len(build("vqav2", path=tmp_path, split="trainval", seen=2)) == 6
    tests = build("vqav2", path=tmp_path, split="test-dev", seen=2)
    assert tests.read(0).extra == {"question_id": 1} and tests.ten_answers(0) == []


def test_an_answer_list_of_ones_own(tmp_path: Path) -> None:
    vqa(tmp_path)
    (tmp_path / "answers.txt").write_bytes(b"no\r\nit's a cat\r\n")
    dataset = build("vqav2", path=tmp_path, split="train", answers=tmp_path / "answers.txt")
    assert dataset.answers == ["no", "it's a cat"]
    assert dataset.read(0).extra["answers"] == pytest.approx([0.0, 0.3])
    (tmp_path / "answers.txt").write_text("no\nyes\nno\n", "utf-8")
    with pytest.raises(ValueError, match="names 'no' twice"):
        build("vqav2", path=tmp_path, answers=tmp_path / "answers.txt")


def test_frequent_answers_are_in_one_order() -> None:
    given = ["b"] * 9 + ["A"] * 5 + ["a?"] * 5 + ["The dog"] * 9 + ["rare"] * 8 + ["a"] * 3
    assert frequent_answers(given) == ("b", "dog")  # "a" is an article, and nothing is left of it
    assert frequent_answers([]) == ()


@pytest.mark.parametrize(("count", "score"), [(0, None), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0)])
def test_soft_scores_are_the_published_ones(count: int, score: float | None) -> None:
    others = [f"other {n}" for n in range(10 - count)]
    found = soft_targets(["dog"] * count + others, {"dog": 5}).get(5)
    assert found == (None if score is None else pytest.approx(score))


def test_damage_to_vqa(tmp_path: Path) -> None:
    vqa(tmp_path)
    questions = tmp_path / "v2_OpenEnded_mscoco_val2014_questions.json"
    rows = json.loads(questions.read_text("utf-8"))["questions"]
    rows += [{"question_id": 5, "question": "?", "image_id": 11}, {"question": 3}, 7]
    write_json(questions, {"questions": rows})
    (tmp_path / "val2014" / "COCO_val2014_000000000012.jpg").unlink()
    dataset = build("vqav2", path=tmp_path, split="val", seen=1)
    assert dataset.coverage["dropped"] == {"broken line": 2, "no label": 1, "no picture": 1}
    # what people answered stays with its question when others are left out
    assert [dataset.read(n).extra["question_id"] for n in range(2)] == [11000, 11002]
    kept = build("vqav2", path=tmp_path, split="val", seen=1, missing="keep")
    with pytest.raises(DamagedSampleError, match="no picture"):
        kept.read(1)
    with pytest.raises(ValueError, match="no list 'questions'"):
        write_json(questions, [])
        build("vqav2", path=tmp_path, split="val", seen=1)
    (tmp_path / "v2_mscoco_val2014_annotations.json").unlink()
    with pytest.raises(ValueError, match="val2014_annotations.json: no such file.*answers:"):
        build("vqav2", path=tmp_path)
    assert len(build("vqav2", path=tmp_path, vocabulary_of="train", seen=1)) == 3
    with pytest.raises(ValueError, match="no answer occurs in 9 questions"):
        build("vqav2", path=tmp_path, vocabulary_of="train")


def test_hypotheses_without_agreement_are_counted(tmp_path: Path) -> None:
    dataset = build("snli_ve", **snli_ve(tmp_path), split="dev")
    assert dataset.class_names == ("entailment", "neutral", "contradiction")
    found = [(s.text, s.extra["label"]) for s in map(dataset.read, range(len(dataset)))]
    expected = [(f"dev says {name}", number) for number, name in enumerate(dataset.class_names)]
    assert build("snli_ve", path=tmp_path, split="dev").fingerprint == dataset.fingerprint
    assert found == expected and dataset.read(1).image.size == (56, 48)
    assert dataset.coverage["dropped"] == {"no label": 1}
    (tmp_path / "flickr30k-images" / "470555290.jpg").unlink()
    fewer = build("snli_ve", path=tmp_path, images=tmp_path / "flickr30k-images", split="dev")
    assert fewer.coverage["dropped"] == {"no label": 1, "no picture": 1}
    assert fewer.labels("label").tolist() == [1, 2]


def test_snli_ve_of_other_spellings(tmp_path: Path) -> None:
    options = snli_ve(tmp_path)
    row = {"Flickr30K_ID": "470555290.jpg", "sentence2": "it", "gold_label": "neutral"}
    json_lines(tmp_path / "snli_ve_test.jsonl", [row, {**row, "gold_label": "maybe"}])
    dataset = build("snli_ve", **options, split="test")
    assert len(dataset) == 1 and dataset.coverage["dropped"] == {"unknown label": 1}
    json_lines(tmp_path / "snli_ve_test.jsonl", [{**row, "Flickr30K_ID": "../up"}])
    with pytest.raises(ValueError, match="no row is left: 1 x unsafe name"):
        build("snli_ve", **options, split="test")


def test_memes(tmp_path: Path) -> None:
    dataset = build("hateful_memes", path=memes(tmp_path))
    sample = dataset.read(1)
    assert sample.text == 'train "quoted" meme' and sample.extra == {"id": 123, "label": 1}
    assert sample.image.size == (56, 48)
    assert build("hateful_memes", path=tmp_path, split="dev").read_text(0).startswith("dev_seen")
    assert build("hateful_memes", path=tmp_path, split="test").read(0).extra == {"id": 23}
    (tmp_path / "test_unseen.jsonl").write_text("", "utf-8")
    with pytest.raises(ValueError, match="no row is left: it is empty"):
        build("hateful_memes", path=tmp_path, split="test_unseen")
    row = {"id": 1, "img": "img/0023.png", "text": "t", "label": 2}
    json_lines(tmp_path / "test_unseen.jsonl", [row])
    with pytest.raises(ValueError, match="label 2 is out of range: there are 2 classes"):
        build("hateful_memes", path=tmp_path, split="test_unseen")


def test_five_captions_of_each_picture(tmp_path: Path) -> None:
    options = karpathy(tmp_path)
    dataset = build("karpathy_retrieval", **options, split="test")
    samples = [dataset.read(n) for n in range(len(dataset))]
    assert [s.extra["picture"] for s in samples] == [3] * 5 + [4] * 5
    assert [s.text for s in samples[:5]] == [f"test 3 caption {n}" for n in range(5)]
    assert dataset.coverage["dropped"] == {"further caption": 2, "other split": 18}
    assert len(build("karpathy_retrieval", **options, split="train")) == 10
    assert len(build("karpathy_retrieval", **options, split="dev")) == 5
    assert len(build("karpathy_retrieval", **options, split="test", captions=None)) == 12
    assert len(build("karpathy_retrieval", **options, split="all", captions=1)) == 5
    assert len(build("karpathy_retrieval", path=tmp_path, split="test")) == 10
    with pytest.raises(ValueError, match=r"wants one dataset_\*.json, has none"):
        build("karpathy_retrieval", path=options["images"])


def test_the_token_file_has_no_splits(tmp_path: Path) -> None:
    lines = [f"{n}.jpg#{k}\tcaption {k} of {n}" for n in range(2) for k in range(5)]
    for number in range(2):
        picture(tmp_path / "images" / f"{number}.jpg")
    file = tmp_path / "results_20130124.token"
    file.write_text("\n".join([*lines, "broken"]), "utf-8")
    options = {"path": file, "images": tmp_path / "images"}
    dataset = build("karpathy_retrieval", **options, split="all")
    assert len(dataset) == 10 and dataset.coverage["dropped"] == {"broken line": 1}
    assert dataset.coverage["pictures"] == 2
    with pytest.raises(ValueError, match="has no splits.*split: all"):
        build("karpathy_retrieval", **options, split="test")
