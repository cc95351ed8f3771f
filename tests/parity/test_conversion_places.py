"""Where ``flava weights convert`` writes: never over its source, and never less than was there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from converting import all_forms, convert, file_of_ours, same, tensors, weights
from safetensors.torch import save_file

from flava_plugin.cli.weights_target import check_target, put
from flava_plugin.model.weights import to_torchmultimodal


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    return all_forms(tmp_path)


def test_a_source_is_not_overwritten_by_its_own_result(
    sources: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    face = sources["hugging_face"]
    before = (face / "model.safetensors").read_bytes()
    inside = face / "model.safetensors"
    assert convert(face, inside, "--to", "torchmultimodal", "--force") == 2
    assert "is a part of the source" in capsys.readouterr().err
    single = tmp_path / "single"
    single.mkdir()
    theirs = shutil.copy(sources["torchmultimodal"], single / "model.safetensors")
    assert convert(theirs, single, "--to", "hugging_face", "--heads=4", "--force") == 2
    assert "holds the source" in capsys.readouterr().err
    link = tmp_path / "link"
    link.symlink_to(face)
    assert convert(link, face, "--to", "hugging_face", "--force") == 2
    assert "is the source" in capsys.readouterr().err
    assert inside.read_bytes() == before and theirs.is_file()


def test_a_runs_checkpoint_is_not_overwritten(tmp_path: Path) -> None:
    run = tmp_path / "run"
    held = run / "checkpoints" / "step-1" / "model.safetensors"
    held.parent.mkdir(parents=True)
    held.write_text("mine")
    with pytest.raises(ValueError, match="is a part of the source"):
        check_target(run, held, "flava_plugin", force=True)
    check_target(run, run / "new.safetensors", "flava_plugin", force=False)  # beside, not over


def test_a_folder_stays_where_the_new_one_cannot_take_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "face", tmp_path / ".tmp-1-face"
    for folder, text in ((old, "old"), (new, "new")):
        folder.mkdir()
        (folder / "config.json").write_text(text)
    rename = Path.rename

    def stopped(self: Path, target: Path) -> Path:
        if self == new:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", stopped)
        with pytest.raises(KeyboardInterrupt):
            put(new, old)
    assert (old / "config.json").read_text() == "old"
    put(new, old)
    assert [path.name for path in tmp_path.iterdir()] == ["face"]
    assert (old / "config.json").read_text() == "new"


def test_attention_heads_that_cannot_be_told_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "theirs.safetensors", tmp_path / "ours.safetensors"
    save_file({n: v.clone() for n, v in to_torchmultimodal(weights()).items()}, source)
    assert convert(source, target, "--to", "flava_plugin") == 2
    assert "widths (32, 32, 32) are no multiples of 64" in (told := capsys.readouterr().err)
    assert "--heads" in told and not target.exists()
    assert convert(source, target, "--to", "flava_plugin", "--heads", "4") == 0
    assert "the check cannot see a wrong number of attention heads" in capsys.readouterr().out


def test_weights_of_losses_are_told(
    sources: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    face = sources["hugging_face"]
    config = json.loads((face / "config.json").read_text())
    (face / "config.json").write_text(json.dumps({**config, "mim_weight": 3}))
    capsys.readouterr()
    for goal, told in (
        ("flava_plugin", "note: set objectives.mim.weight: 3,"),
        ("torchmultimodal", "note: the source weighs the loss of mim by 3;"),
    ):
        assert convert(face, tmp_path / f"{goal}.safetensors", "--to", goal, "--force") == 0
        assert told in capsys.readouterr().out
    assert convert(face, tmp_path / "m.safetensors", "--to", "flava_plugin", "--model-only") == 0
    assert "objectives.mim.weight" not in capsys.readouterr().out
    ours = file_of_ours(tmp_path)
    assert same(tensors(tmp_path / "flava_plugin.safetensors"), tensors(ours))
