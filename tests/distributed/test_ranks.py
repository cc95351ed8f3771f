"""Ranks find each other, agree, and end together."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
import ranks
import torch


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_a_rank_that_fails_ends_the_others(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(RuntimeError, match="(?s)rank 1 of 2 failed.*has had enough"):
        ranks.run("meeting.one_rank_fails", 2, tmp_path, timeout=100)
    assert time.monotonic() - started < 90


def test_ranks_meet_through_torchruns_variables(tmp_path: Path) -> None:
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2"}
    variables = {r: {**meeting, "RANK": str(r), "LOCAL_RANK": str(r)} for r in range(2)}
    results = ranks.run("meeting.place", 2, tmp_path, variables=variables)
    for rank, found in enumerate(results):
        assert found["place"].tolist() == [rank, 2, rank]
        assert torch.equal(found["ranks"], torch.tensor([0, 1]))
