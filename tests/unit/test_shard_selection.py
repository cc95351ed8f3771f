"""Samples of indexed tars that are left out."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.data.shards.opening import open_shards
from flava_plugin.data.shards.selection import write_selection
from flava_plugin.data.shards.shard_set import ShardSet
from tests.unit.shard_trees import make_set, pairs


def uneven(folder: Path) -> ShardSet:
    return make_set(folder, [pairs(3), pairs(5, 3), pairs(1, 8)])


def test_a_selection_leaves_samples_out(tmp_path: Path) -> None:
    whole = uneven(tmp_path)
    file = tmp_path / "chosen.safetensors"
    kept = [np.array([1, 0, 1], bool), np.zeros(5, bool), np.ones(1, bool)]
    assert write_selection(file, whole.manifest, kept) == 3
    chosen = open_shards(str(tmp_path), "pair", selection=file)
    assert chosen.shard_lengths.tolist() == [2, 0, 1]
    assert [chosen.read(index).text for index in range(3)] == [
        "caption 0", "caption 2", "caption 8",
    ]  # fmt: skip
    assert [chosen.neighbours(index) for index in (1, 2)] == [range(2), range(2, 3)]
    assert chosen.text_sizes(np.arange(3)).tolist() == [9] * 3
    assert pickle.loads(pickle.dumps(chosen)).read(1).text == "caption 2"
    assert chosen.fingerprint != whole.fingerprint
    with pytest.raises(ValueError, match="has 3 samples"):
        write_selection(file, whole.manifest, [np.ones(2, bool)] * 3)
    write_selection(file, whole.manifest, [np.ones(3, bool), np.ones(5, bool), np.zeros(1, bool)])
    assert open_shards(str(tmp_path), "pair", selection=file).fingerprint != chosen.fingerprint


def test_a_selection_of_other_shards_or_damaged_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "chosen.safetensors"
    first = uneven(tmp_path / "a")
    write_selection(file, first.manifest, [np.ones(n, bool) for n in (3, 5, 1)])
    make_set(tmp_path / "b", [pairs(3)])
    with pytest.raises(ValueError, match="other shards"):
        open_shards(str(tmp_path / "b"), "pair", selection=file)
    data = file.read_bytes()
    file.write_bytes(data[:-1])
    with pytest.raises(ValueError, match="no selection"):
        open_shards(str(tmp_path / "a"), "pair", selection=file)
    at = data.index(b"\xe0\xf8\x80")  # the bits: 3, 5 and 1 ones
    file.write_bytes(data[:at] + b"\xa0" + data[at + 1 :])
    assert reason_of_first(open_shards(str(tmp_path / "a"), "pair", selection=file))


def reason_of_first(shards: ShardSet) -> bool:
    with pytest.raises(DamagedSampleError, match="damaged index"):
        shards.read(0)
    return True
