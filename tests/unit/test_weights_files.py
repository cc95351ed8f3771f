"""Files of weights that lie: archives, tensors without numbers, Hugging Face's folders."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from flava_plugin.model.hugging_face_folder import CONFIG, read_folder
from flava_plugin.model.weights_file import read_pickled
from flava_plugin.model.weights_shapes import no_tensor

INDEX = "model.safetensors.index.json"


def test_an_archive_that_unpacks_to_more_is_refused_before_torch_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, packed = tmp_path / "w.pt", tmp_path / "packed.pt"
    torch.save({"a.w": torch.zeros(4096)}, path)
    assert read_pickled(path)["a.w"].shape == (4096,)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(ValueError, match=r"packed\.pt: refused: entry '.*' is packed"):
        read_pickled(packed)
    whole = path.read_bytes()
    told = bytearray(whole)
    entry = whole.rindex(b"PK\x01\x02")  # the last of the table of contents
    told[entry + 24 : entry + 28] = (2**30).to_bytes(4, "little")  # its length, unpacked
    path.write_bytes(told)
    with pytest.raises(ValueError, match=r"w\.pt: refused: its entries tell of 10\d+ bytes"):
        read_pickled(path)
    path.write_bytes(whole[:3000])
    with pytest.raises(ValueError, match=r"w\.pt: refused: a truncated archive"):
        read_pickled(path)


@pytest.mark.parametrize("older", [False, True])
def test_a_tensor_of_more_numbers_than_the_file_has_is_named(tmp_path: Path, older: bool) -> None:
    path = tmp_path / "w.pt"
    few = {"small.w": torch.ones(2, 3).T, "large.w": torch.ones(1).expand(10**6, 10**6)}
    torch.save(few, path, _use_new_zipfile_serialization=not older)
    with pytest.raises(ValueError, match=r"w\.pt: refused: large\.w is \(10+, 10+\), but only 1"):
        read_pickled(path)
    torch.save({"empty.w": torch.ones(3, device="meta")}, path)
    with pytest.raises(ValueError, match=r"refused: empty\.w is on 'meta'"):
        read_pickled(path)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float8_e4m3fn, torch.complex64])
def test_other_types_are_no_weights(dtype: torch.dtype) -> None:
    assert f"is a tensor of {dtype}" in str(no_tensor(torch.zeros(2).to(dtype)))
    assert no_tensor(torch.zeros(2, dtype=torch.bfloat16)) is None


def folder_of(path: Path, config: Any, index: Any = None) -> Path:
    (path / CONFIG).write_text(json.dumps({"model_type": "flava", **config}))
    if index is not None:
        (path / INDEX).write_text(json.dumps(index))
    return path


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"text_config": [1]}, r"text_config: \[1\] is no section"),
        ({"image_config": "x"}, "image_config: 'x' is no section"),
        ({"multimodal_config": 0}, "multimodal_config: 0 is no section"),
        ({"model_type": {}}, r"model_type is \{\}"),
        ({"mim_weight": "3"}, "mim_weight is '3', and not a number"),
        ({"itm_weight": -1}, "itm_weight is -1, and not a number"),
        ({"itm_weight": float("nan")}, "itm_weight is nan, and not a number"),
        ({"mlm_weight": 10**999}, "mlm_weight is 10+, and not a number"),
    ],
)
def test_a_configuration_of_another_form_is_refused(
    tmp_path: Path, config: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError, match=rf"config\.json: (?s:.*){told}"):
        read_folder(folder_of(tmp_path, config))


@pytest.mark.parametrize(
    ("index", "told"),
    [
        ({}, "weight_map is None"),
        ({"weight_map": {}}, r"weight_map is \{\}"),
        ({"weight_map": ["a"]}, r"weight_map is \['a'\]"),
        *(
            ({"weight_map": {"a.w": shard}}, r"weight_map names .* for 'a\.w'")
            for shard in (1, None, ["x"], {}, "", ".", "..", "../x", "/x", "y/", "\0", "\ud800")
        ),
    ],
)
def test_an_index_of_another_form_is_refused(tmp_path: Path, index: Any, told: str) -> None:
    with pytest.raises(ValueError, match=rf"index\.json: {told}"):
        read_folder(folder_of(tmp_path, {}, index))


def test_a_shard_that_is_a_folder_or_missing_is_named(tmp_path: Path) -> None:
    folder_of(tmp_path, {}, {"weight_map": {"a.w": "part"}})
    with pytest.raises(ValueError, match="part: no readable safetensors file"):
        read_folder(tmp_path)
    (tmp_path / "part").mkdir()
    with pytest.raises(ValueError, match="part: no readable safetensors file"):
        read_folder(tmp_path)


def test_what_losses_are_weighed_by_is_read(tmp_path: Path) -> None:
    state: dict[str, Tensor] = {"a.w": torch.ones(1)}
    save_file(state, tmp_path / "model.safetensors")
    config = {"mim_weight": 3, "mlm_weight": 1, "global_contrastive_weight": 0.5}
    config |= {"image_config": None}  # type: ignore[dict-item]
    assert read_folder(folder_of(tmp_path, config)) == (
        state,
        (12, 12, 12),
        {"mim": 3.0, "contrastive": 0.5},
    )
