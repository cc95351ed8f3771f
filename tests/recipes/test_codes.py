"""Codes that were computed before a run give the run that computes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_run import lines, write_recipe

from flava_plugin.cli.main import main
from flava_plugin.data import codes as stored

STEPS = ["steps=6", "data.bad_samples=5"]


def folder_of_pictures(folder: Path) -> Path:
    folder.mkdir()
    for number in range(12):
        noise = Image.effect_noise((70, 60), 90).convert("RGB")
        noise.save(folder / f"{number:02d}.png")
    (folder / "03.png").write_bytes((folder / "03.png").read_bytes()[:400])
    return folder


@pytest.fixture
def recipe(tmp_path: Path) -> list[str]:
    pictures = folder_of_pictures(tmp_path / "pictures")
    dataset = f"data.sources.images.dataset={{type: image_folder, path: {pictures}}}"
    return [str(write_recipe(tmp_path)), dataset, *STEPS]


@pytest.mark.parametrize("view", ["exact", "device"])
@pytest.mark.parametrize("part", [5, 65_536])
def test_a_run_with_codes_is_the_run_without(
    tmp_path: Path, recipe: list[str], part: int, view: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("codes", "compute_codes"):
        monkeypatch.setattr(f"flava_plugin.data.{module}.PART", part)
    recipe = [*recipe, f"data.image.codebook_view={view}"]
    codes = [f"data.sources.{name}.codes={tmp_path / name}" for name in ("images", "pairs")]
    for name, budget in (("images", "1"), ("pairs", "0")):
        options = ["--source", name, "--out", str(tmp_path / name), "--budget", budget]
        assert main(["data", "codes", *recipe, *options, "--rows", "5"]) == 0
    assert main(["train", *recipe, f"run_dir={tmp_path / 'without'}"]) == 0
    assert main(["train", *recipe, f"run_dir={tmp_path / 'with'}", *codes]) == 0
    assert lines(tmp_path / "with") == lines(tmp_path / "without")
    assert any("mmm_image" in line for line in lines(tmp_path / "with"))


def test_an_interrupted_command_goes_on_and_counts_what_it_has(
    tmp_path: Path,
    recipe: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for module in ("codes", "compute_codes"):
        monkeypatch.setattr(f"flava_plugin.data.{module}.PART", 5)
    command = ["data", "codes", *recipe, "--source", "images", "--out"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main([*command, str(whole)]) == 1, "one picture is broken, none is allowed"
    assert "1 x broken picture" in capsys.readouterr().err
    assert main([*command, str(cut)]) == 1
    about = json.loads((cut / stored.LIST).read_text())
    (cut / stored.LIST).write_text(json.dumps({**about, "patches": 0, "complete": False}))
    (cut / stored.part_name(1)).unlink()
    capsys.readouterr()
    assert main([*command, str(cut), "--budget", "1"]) == 0
    assert "1 x no codes in an earlier run" in capsys.readouterr().err
    for file in whole.iterdir():
        assert file.read_bytes() == (cut / file.name).read_bytes(), file.name


def test_codes_of_something_else_are_refused(
    tmp_path: Path, recipe: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "codes"
    command = ["data", "codes", *recipe, "--source", "images", "--budget", "1", "--out", str(out)]
    assert main([*command, "data.image.crop=[0.9, 1.0]"]) == 2
    assert "data.image.crop: (0.9, 1.0) choose another part" in capsys.readouterr().err
    assert main([*command, "data.image.flip=true"]) == 2
    assert not out.exists()
    assert main(command) == 0
    train = ["train", *recipe, f"data.sources.images.codes={out}"]
    assert main([*train, "data.image.crop=[0.9, 1.0]"]) == 2
    assert "data.sources.images.codes: are of whole pictures" in capsys.readouterr().err
    assert main([*train, "data.image.codebook_view=device"]) == 2
    assert "(image.codebook_view 'shared' then, 'device' now)" in capsys.readouterr().err
    (tmp_path / "pictures" / "99.png").write_bytes((tmp_path / "pictures" / "01.png").read_bytes())
    assert main(train) == 2
    assert "samples 12 then, 13 now" in capsys.readouterr().err
    assert main(command) == 2
    assert "holds codes of something else" in capsys.readouterr().err


def test_other_folders_files_and_shares(
    tmp_path: Path, recipe: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["data", "codes", *recipe, "--source", "images", "--out"]
    (tmp_path / "file").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").touch()
    for name in ("file", "mine"):
        assert main([*command, str(tmp_path / name)]) == 2
        assert f"{tmp_path / name}: is no folder of codes" in capsys.readouterr().err
    out = tmp_path / "codes"
    for content in ("[1]", "{", "[" * 9000):
        out.mkdir(exist_ok=True)
        (out / stored.LIST).write_text(content)
        assert main([*command, str(out)]) == 2
        assert f"{out}: holds codes of something else" in capsys.readouterr().err
    (out / stored.LIST).rename(out / ".tmp-codes.json-1")  # as a killed process leaves it
    assert main([*command, str(out), "--budget", "10%"]) == 0, "1 of 12 pictures is broken"
    assert not list(out.glob(".tmp-*"))
    with pytest.raises(SystemExit) as refused:
        main([*command, str(out), "--budget", "-3"])
    assert refused.value.code == 2


@pytest.mark.parametrize(("source", "said"), [("nix", "the recipe has"), ("sentences", "no pic")])
def test_a_source_without_pictures_is_refused(
    recipe: list[str], source: str, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = ["--source", source, "--out", str(tmp_path / "codes")]
    assert main(["data", "codes", *recipe, *out]) == 2
    assert said in capsys.readouterr().err


def test_a_part_that_is_gone_or_damaged_counts_as_damage(tmp_path: Path) -> None:
    from flava_plugin.data.damage import DamagedSampleError

    codes = stored.Codes(tmp_path, {"patches": 4})
    with pytest.raises(DamagedSampleError, match=r"no codes.*00000000\.safetensors"):
        codes.of(3)
    (tmp_path / stored.part_name(0)).write_bytes(np.random.default_rng(0).bytes(200))
    with pytest.raises(DamagedSampleError, match="no codes"):
        codes.of(3)


@pytest.mark.parametrize("wrong", [8, -2])
def test_a_code_that_the_codebook_does_not_have_counts_as_damage(
    wrong: int, tmp_path: Path
) -> None:
    from safetensors.numpy import save_file

    from flava_plugin.data.damage import DamagedSampleError

    table = np.array([[0, 7], [1, wrong]], dtype=np.int16)
    save_file({"codes": table}, tmp_path / stored.part_name(0))
    codes = stored.Codes(tmp_path, {"patches": 2}, number=8)
    assert codes.of(0).tolist() == [0, 7]
    with pytest.raises(DamagedSampleError, match=f"sample 1 has {wrong}, of 8 codes"):
        codes.of(1)
