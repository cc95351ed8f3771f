"""Trainings of one modality each and a joint one that takes their encoders, by one command."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from flava_plugin.strict_yaml import parse
from tests.launch.fake_slurm import FakeSlurm
from tests.launch.small_runs import flags_of, profile, recipe, save_checkpoint, submit
from tests.launch.test_submit import pickled

Capture = pytest.CaptureFixture[str]

ALONE = {"mim": "images", "mlm": "sentences"}
"""The objective of each training, and its source."""


def recipes(folder: Path, **joint: object) -> dict[str, Path]:
    """Recipes by name: ``mim``, ``mlm`` and ``joint``, each with its run beside it."""
    found = {}
    for name, source in ALONE.items():
        data = yaml.safe_load(recipe(folder / name).read_text())
        data["objectives"] = {name: data["objectives"][name]}
        data["data"]["sources"] = {source: data["data"]["sources"][source] | {"share": 1}}
        found[name] = folder / f"{name}.yaml"
        found[name].write_text(yaml.safe_dump(data))
    init = {
        "image": {"run": str(folder / "mim/run"), "head": True},
        "text": {"run": str(folder / "mlm/run")},
    }
    found["joint"] = recipe(folder / "joint", **{"init": init} | joint)
    return found


def chain(folder: Path, *joint: object, **changes: object) -> list[object]:
    """The command: images, texts afresh, both."""
    given = recipes(folder, **changes)
    words: list[object] = [given["mim"], "--cluster", profile(folder)]
    return [*words, "--then", given["mlm"], "init=null", "--then", given["joint"], *joint]


def test_a_joint_training_waits_for_both_whose_encoders_it_takes(
    numbered: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    said = submit(capsys, *chain(tmp_path), "--then", "--eval", "--tasks", "none")
    assert "no task 'none'" in said.err and not (numbered.folder / "count").exists()
    said = submit(capsys, *chain(tmp_path))
    assert said.code == 0, said.err
    scripts = [(numbered.folder / f"script_{number}").read_text() for number in (1, 2, 3)]
    waits = [flags_of(script).get("dependency") for script in scripts]
    assert waits == [None, "afterok:1", "afterok:2"], "so the third comes after both"
    starts = {}
    for job, name in enumerate(("mim", "mlm", "joint"), 1):
        _, data, _ = pickled(tmp_path / name / "run" / "logs" / str(job) / f"{job}_submitted.pkl")
        starts[name] = parse(str(data["recipe"]))["init"]
    assert starts["mim"] is None and starts["mlm"] is None
    runs = {key: part["run"] for key, part in starts["joint"].items() if part}
    assert runs == {"image": f"{tmp_path}/mim/run", "text": f"{tmp_path}/mlm/run"}


def test_a_dry_run_says_of_each_encoder_that_it_will_fit(
    numbered: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    said = submit(capsys, *chain(tmp_path), "--dry-run")
    assert said.code == 0, said.err
    for line in (
        "[job 2] ok         init: starts fresh, and from no run of the chain",
        f"[job 3] not known  init.text.run: {tmp_path}/mlm/run holds no checkpoint yet; the job",
        f"[job 3] ok         init.image.run: the image encoder of {tmp_path}/mim/run will fit",
        f"[job 3] ok         init.text.run: the text encoder of {tmp_path}/mlm/run will fit",
    ):
        assert line in said.err
    assert not (tmp_path / "mim/run").exists()


def test_the_built_in_recipes_chain_as_they_are(
    numbered: FakeSlurm, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--cluster", profile(tmp_path, nodes=1, tasks_per_node=1), "--dry-run"]
    second = ["--then", "pretrain/mlm_shapes", "init=null"]
    third = ["--then", "pretrain/shapes_initialised", "--then", "--eval"]
    said = submit(capsys, "pretrain/mim_shapes", *words, *second, *third)
    assert said.code == 0, said.err
    assert said.out.count("#!/bin/bash") == 4 and "afterok:JOB3" in said.out
    assert "init.image.run: the image encoder of runs/mim_shapes will fit" in said.err


@pytest.mark.parametrize(
    ("joint", "text"),
    [
        (["model.image_encoder.width=32"],
         "image_encoder.embeddings.cls_token: (1, 1, 32) here, (1, 1, 16) there"),
        (["model.text_encoder.heads=4"], "model.text_encoder.heads: 4 here, 2 there"),
        (["data.tokenizer.lowercase=false"], "data.tokenizer.lowercase: False here, True there"),
        (["init.text.head=true", "objectives.mlm=null", "data.sources.sentences=null"],
         "objectives.mlm: is not in this recipe"),
        (["init.text.run=elsewhere"], "init.text.run: 'elsewhere' does not exist"),
        (["init.text.run=EMPTY"], "init.text.run: EMPTY holds no checkpoint yet"),
        (["init.text.run=NARROW"], "position_embeddings.weight: (64, 16) here, (64, 8) there"),
        (["init.image.run=joint/run"], "init.image.run: 'joint/run' does not exist"),
        (["init.run=MIM"], "or image, text or both of these"),
        (["init=null", "--then", "OWN"], "init.text.run: 'nowhere' does not exist"),
    ],
)  # fmt: skip
def test_what_will_not_fit_keeps_the_first_from_the_queue(
    numbered: FakeSlurm, tmp_path: Path, capsys: Capture, joint: list[str], text: str
) -> None:
    (tmp_path / "empty").mkdir()
    encoder = {"type": "flava_text", "layers": 1, "width": 8, "heads": 2, "max_positions": 64}
    data = yaml.safe_load(recipe(tmp_path / "narrow").read_text())
    narrow = recipe(tmp_path / "narrow", model=data["model"] | {"text_encoder": encoder})
    places = {
        "EMPTY": tmp_path / "empty",
        "NARROW": save_checkpoint(narrow, 3),
        "MIM": tmp_path / "mim/run",
        "OWN": recipe(tmp_path / "own", init={"text": {"run": "nowhere"}}),
    }
    for word, place in places.items():
        joint = [each.replace(word, str(place)) for each in joint]
        text = text.replace(word, str(place))
    said = submit(capsys, *chain(tmp_path), *joint)
    assert said.code == 2, said.err
    assert text in said.err
    assert not (numbered.folder / "count").exists()


def test_an_existing_run_may_give_an_encoder(
    numbered: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    other = save_checkpoint(recipe(tmp_path / "other"), 3)
    said = submit(capsys, *chain(tmp_path), f"init.text.run={other}", "--dry-run")
    assert said.code == 0, said.err
    assert f"ok         init.text.run: {other} holds a checkpoint" in said.err
    assert f"the text encoder of {other} will fit" in said.err


def test_a_recipes_run_of_elsewhere_gives_way_to_the_chain_and_one_of_it_stays(
    numbered: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    other = save_checkpoint(recipe(tmp_path / "other"), 3)
    for start, expected in ((other, tmp_path / "mlm/run"), (tmp_path / "mim/run",) * 2):
        said = submit(capsys, *chain(tmp_path, init={"run": str(start)}), "--dry-run")
        assert said.code == 0, said.err
        assert f"init.run: the backbone of {expected} will fit" in said.err


def test_alone_each_encoders_run_has_to_hold_a_checkpoint(
    numbered: FakeSlurm, tmp_path: Path, capsys: Capture
) -> None:
    words = [recipes(tmp_path)["joint"], "--cluster", profile(tmp_path), "--dry-run"]
    said = submit(capsys, *words)
    assert said.code == 2
    for key, name in (("image", "mim"), ("text", "mlm")):
        assert f"init.{key}.run: '{tmp_path}/{name}/run' does not exist" in said.err
        assert f"init.{key}.run: {tmp_path}/{name}/run holds no checkpoint yet; give" in said.err
    said = submit(capsys, *words, "--dependency", "afterok:41:42")
    assert said.code == 0, said.err
    assert f"not known  init.text.run: {tmp_path}/mlm/run holds no checkpoint yet" in said.err
