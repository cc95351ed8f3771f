"""``flava predict``: lines of JSON for good inputs, a count of bad ones, and exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest
from inference_run import write_run

from flava_plugin.cli.main import main
from flava_plugin.evaluate.inference import load
from flava_plugin.registry import datasets

ANSWERS = (
    "objectives.answers={modality: pair, head: {type: classifier, num_classes: 2}, "
    "loss: {type: class_ce, target: answer}}"
)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"), ANSWERS)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    pairs = datasets.build("shapes_pairs", split="dev", size=3)
    for number, name in enumerate(("b.png", "a.jpg", "deep/c.png")):
        image = pairs.read(number).image
        assert image is not None
        image.save(folder / name)
    return folder


Captured = pytest.CaptureFixture[str]


def lines(capsys: Captured) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_folder_is_classified(run_dir: Path, pictures: Path, capsys: Captured) -> None:
    assert main(["predict", str(run_dir), str(pictures), "--names", "red, blue"]) == 0
    found = lines(capsys)
    paths = [pictures / "a.jpg", pictures / "b.png", pictures / "deep" / "c.png"]
    assert [row["input"] for row in found] == list(map(str, paths))
    expected = load(run_dir).classify(paths, ["red", "blue"])
    for row, chances in zip(found, expected.tolist(), strict=True):
        by_name = {each["name"]: each["probability"] for each in row["classes"]}
        assert by_name == pytest.approx(dict(zip(("red", "blue"), chances, strict=True)), abs=1e-5)
        assert row["classes"][0]["probability"] >= row["classes"][1]["probability"]


def test_questions_come_from_a_table(run_dir: Path, pictures: Path, capsys: Captured) -> None:
    table = pictures / "asked.csv"
    rows = 'image,question\r\na.jpg,"red, or blue?"\r\ndeep/c.png,\r\n'
    table.write_text(rows, newline="")
    words = pictures.parent / "answers.txt"
    words.write_text("no\nyes\n")
    command = ["predict", str(run_dir), str(table), "--question", "is it red?"]
    assert main([*command, "--answers", str(words), "-k", "1"]) == 0
    found = lines(capsys)
    assert [row["question"] for row in found] == ["red, or blue?", "is it red?"]
    assert all(len(row["answers"]) == 1 for row in found)
    assert {row["answers"][0]["answer"] for row in found} <= {"no", "yes"}


def test_search_of_a_folder_and_of_its_index_agree(
    run_dir: Path, pictures: Path, capsys: Captured
) -> None:
    search = ["--query", "a red circle", "--query", "a square", "-k", "2"]
    assert main(["predict", str(run_dir), str(pictures), *search]) == 0
    direct = lines(capsys)
    index = str(pictures.parent / "index")
    assert main(["predict", str(run_dir), str(pictures), "--embed", index]) == 0
    assert lines(capsys)[0]["rows"] == 3
    assert main(["predict", str(run_dir), index, *search]) == 0
    assert lines(capsys) == direct
    assert [len(row["hits"]) for row in direct] == [2, 2]


def test_texts_are_searched(run_dir: Path, tmp_path: Path, capsys: Captured) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("a red circle\n\na blue square\n")
    command = ["predict", str(run_dir), str(texts), "--texts", "--query", "a blue square"]
    assert main(command) == 0
    assert lines(capsys)[0]["hits"][0]["name"] == "a blue square"


def test_bad_inputs_are_counted_and_nothing_good_is_lost(
    run_dir: Path, pictures: Path, capsys: Captured
) -> None:
    (pictures / "broken.png").write_bytes(b"no picture")
    table = pictures / "rows.jsonl"
    rows = ['{"image": "b.png"}', "{", '{"image": "gone.png"}', '{"other": 1}', '{"image": 3}']
    table.write_bytes("\n".join(rows).encode() + b'\n{"image": "\xff.png"}\n')
    command = ["predict", str(run_dir), str(pictures), str(table), "--names", "red,blue"]
    assert main(command) == 1
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 4
    assert "6 samples are damaged, more than the 0 of --budget" in told.err
    assert "4 x unreadable row" in told.err
    assert main([*command, "--budget", "6"]) == 0
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 4
    assert "left out 4 x unreadable row" in told.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["gone.png", "--names", "a,b"], "no such file or folder"),
        (["FOLDER", "--names", "a,a"], "stands twice"),
        (["FOLDER", "--question", "what?", "--objective", "vqa"], "no objective 'vqa'"),
        (["FOLDER", "--question", "what?"], "names the answers"),
        (["RECIPE", "--names", "a,b"], "neither a picture"),
    ],
)
def test_what_cannot_be_done_is_refused(
    run_dir: Path, pictures: Path, words: list[str], told: str, capsys: Captured
) -> None:
    places = {"FOLDER": str(pictures), "RECIPE": str(run_dir / "recipe.yaml")}
    assert main(["predict", str(run_dir), *(places.get(word, word) for word in words)]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.splitlines()) == 1


def test_one_mode_at_a_time(run_dir: Path, pictures: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["predict", str(run_dir), str(pictures), "--names", "a,b", "--query", "red"])
    assert stopped.value.code == 2
