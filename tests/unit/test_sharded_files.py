"""Checkpoints that ranks write in parts, and what joins them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from flava_plugin.cli.main import main
from flava_plugin.train import checkpoint, run_folder, saving
from flava_plugin.train.pieces import Piece
from flava_plugin.train.tensor_files import (
    DTYPES,
    TensorFiles,
    file_name,
    write_part,
    write_whole,
)

MODEL = {
    "matrix": torch.arange(35.0).view(5, 7),
    "half": torch.arange(6.0).bfloat16(),
    "number": torch.tensor(2.5),
    "places": torch.arange(3),
}
OPTIM = {"matrix.exp_avg": torch.arange(35.0).view(5, 7) / 2, "matrix.step": torch.tensor(4.0)}


def kinds(model: list[Piece], optim: list[Piece]) -> dict[str, list[Piece]]:
    return {"model": model, "optim": optim}


def cut(tensors: dict[str, Tensor], rank: int, ranks: int) -> list[Piece]:
    pieces = []
    for name, tensor in tensors.items():
        flat = tensor.reshape(-1)
        first, last = (len(flat) * r // ranks for r in (rank, rank + 1))
        if first < last:
            pieces.append(Piece(name, tuple(tensor.shape), first, flat[first:last].clone()))
    return pieces


@pytest.mark.parametrize("dtype", DTYPES, ids=DTYPES.values())
def test_every_type_of_number_is_written_as_the_library_reads_it(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    numbers = torch.arange(6).to(dtype)
    given = {
        "t": numbers.view(2, 3).t(),
        "part": numbers[1:3],
        "none": numbers[:0],
        "one": numbers[2],
    }
    write_whole(tmp_path / "file", given)
    found = load_file(tmp_path / "file")
    assert found.keys() == given.keys()
    for name, tensor in found.items():
        assert (tensor.dtype, tensor.shape) == (dtype, given[name].shape)
        assert tensor.tolist() == given[name].tolist(), name


def save_sharded(run_dir: Path, step: int, ranks: int, keep: int = 3) -> Path:
    token = run_folder.claim(run_dir)
    files: dict[str, checkpoint.Fingerprint] = {}
    for rank in range(ranks):
        pieces = cut(MODEL, rank, ranks), cut(OPTIM, rank, ranks)
        files |= saving.save_part(run_dir, step, kinds(*pieces), (rank, ranks), token=token)
    return saving.publish(
        run_dir, step, files, {"seconds": 1.5}, token=token, keep=keep, parts=ranks
    )


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_what_ranks_wrote_apart_is_read_whole_or_in_part(tmp_path: Path, ranks: int) -> None:
    save_sharded(tmp_path, 7, ranks)
    found = checkpoint.newest(tmp_path)
    assert found is not None and found.step == 7 and found.parts == ranks
    assert found.model().keys() == MODEL.keys()
    for name, tensor in found.model().items():
        assert tensor.dtype == MODEL[name].dtype and torch.equal(tensor, MODEL[name]), name
    assert torch.equal(found.optim()["matrix"]["exp_avg"], OPTIM["matrix.exp_avg"])
    source = found.source("model")
    assert source.part("matrix", 6, 20).tolist() == list(range(6, 20))
    assert source.part("matrix", 35, 35).tolist() == []


def test_a_part_that_is_lost_or_altered_makes_the_one_before_it_the_newest(tmp_path: Path) -> None:
    save_sharded(tmp_path, 1, 2)
    folder = save_sharded(tmp_path, 2, 2)
    lost = folder / file_name("optim", (1, 2))
    kept = lost.read_bytes()
    lost.unlink()
    found = checkpoint.newest(tmp_path)
    assert found is not None and found.step == 1
    lost.write_bytes(kept[:-1] + b"x")
    found = checkpoint.newest(tmp_path)
    assert found is not None and found.step == 1
    lost.write_bytes(kept)
    found = checkpoint.newest(tmp_path)
    assert found is not None and found.step == 2


def test_ranks_that_share_the_checking_see_every_file_together(tmp_path: Path) -> None:
    folder = save_sharded(tmp_path, 2, 2)
    for path in sorted(folder.glob("*.safetensors")):
        kept = path.read_bytes()
        path.write_bytes(kept[:-1] + b"x")
        sees = []
        for rank in range(3):
            try:
                checkpoint.read(folder, share=(rank, 3))
            except ValueError:
                sees.append(rank)
        assert len(sees) == 1, path
        path.write_bytes(kept)


@pytest.mark.parametrize("missing", [0, 1])
def test_pieces_with_a_hole_are_no_source(tmp_path: Path, missing: int) -> None:
    for rank in range(2):
        write_part(tmp_path / f"{rank}.safetensors", cut(MODEL, rank, 2))
    with pytest.raises(ValueError, match="a part is lost"):
        TensorFiles([tmp_path / f"{1 - missing}.safetensors"])


def test_only_whole_saves_get_a_name(tmp_path: Path) -> None:
    save_sharded(tmp_path, 1, 2)
    token = run_folder.claim(tmp_path)
    saving.save_part(tmp_path, 2, kinds(cut(MODEL, 0, 2), cut(OPTIM, 0, 2)), (0, 2), token=token)
    found = checkpoint.newest(tmp_path)
    assert found is not None and found.step == 1
    checkpoint.sweep(tmp_path)
    assert not list(tmp_path.glob("**/.tmp-*"))


def test_an_older_attempt_publishes_nothing(tmp_path: Path) -> None:
    old = run_folder.claim(tmp_path)
    files = saving.save_part(
        tmp_path, 2, kinds(cut(MODEL, 0, 1), cut(OPTIM, 0, 1)), (0, 1), token=old
    )
    run_folder.claim(tmp_path)
    for clean in (lambda: None, lambda: checkpoint.sweep(tmp_path)):
        clean()
        with pytest.raises(run_folder.LostClaimError):
            saving.publish(tmp_path, 2, files, {}, token=old, keep=1, parts=1)
    assert checkpoint.newest(tmp_path) is None


def test_parts_that_were_written_elsewhere_are_no_checkpoint(tmp_path: Path) -> None:
    run_dirs = [tmp_path / "node_0", tmp_path / "node_1"]
    token = run_folder.claim(run_dirs[0])
    files: dict[str, checkpoint.Fingerprint] = {}
    for rank, run_dir in enumerate(run_dirs):
        pieces = cut(MODEL, rank, 2), cut(OPTIM, rank, 2)
        files |= saving.save_part(run_dir, 2, kinds(*pieces), (rank, 2), token=token)
    with pytest.raises(OSError, match=r"model-00002-of-00002.*run_dir that all ranks share"):
        saving.publish(run_dirs[0], 2, files, {}, token=token, keep=1, parts=2)
    assert checkpoint.newest(run_dirs[0]) is None


def test_merge_writes_what_the_library_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_sharded(tmp_path / "run", 7, 4)
    target = tmp_path / "whole"
    assert main(["weights", "merge", str(tmp_path / "run"), str(target)]) == 0
    assert "step 7" in capsys.readouterr().out
    loaded = load_file(target / "model.safetensors")
    assert loaded.keys() == MODEL.keys()
    for name, tensor in loaded.items():
        assert tensor.dtype == MODEL[name].dtype and torch.equal(tensor, MODEL[name]), name
    merged = checkpoint.read(target)
    assert merged.parts is None and merged.step == 7 and merged.state["seconds"] == 1.5
    assert torch.equal(merged.optim()["matrix"]["step"], OPTIM["matrix.step"])
    assert json.loads((target / "state.json").read_text())["format"] == 1


def test_merged_numbers_are_aligned_to_their_size(tmp_path: Path) -> None:
    token, mixed = run_folder.claim(tmp_path), {"a": torch.ones(3).half(), "b": torch.arange(2)}
    files = saving.save_part(tmp_path, 1, kinds(cut(mixed, 0, 1), []), (0, 1), token=token)
    saving.publish(tmp_path, 1, files, {}, token=token, keep=1, parts=1)
    assert main(["weights", "merge", str(tmp_path), str(tmp_path / "whole")]) == 0
    path = tmp_path / "whole/model.safetensors"
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    assert (size % 8, header["b"]["data_offsets"][0] % 8) == (0, 0)
    assert all(torch.equal(tensor, mixed[name]) for name, tensor in load_file(path).items())


def test_merge_refuses_what_is_whole_or_would_be_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_sharded(tmp_path / "run", 7, 2)
    assert main(["weights", "merge", str(folder), str(tmp_path / "whole")]) == 0
    assert main(["weights", "merge", str(folder), str(tmp_path / "whole")]) == 2
    assert "exists" in capsys.readouterr().err
    assert main(["weights", "merge", str(tmp_path / "whole"), str(tmp_path / "more")]) == 2
    assert "whole tensors already" in capsys.readouterr().err
    assert main(["weights", "merge", str(tmp_path / "nothing"), str(tmp_path / "more")]) == 2
    assert not (tmp_path / "more").exists()
