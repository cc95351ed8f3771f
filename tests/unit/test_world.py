from __future__ import annotations

import socket

import pytest
import torch
import torch.distributed as dist

from flava_plugin.train import world
from flava_plugin.train.world import LostRankError, World, connect, disconnect, lost_ranks_named

ALONE = World(0, 1, 0, torch.device("cpu"))


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for names in (*world.LAUNCHERS, ("MASTER_ADDR", "MASTER_PORT")):
        for name in names:
            monkeypatch.delenv(name, raising=False)


def test_without_a_launcher_there_is_one_process_and_no_group() -> None:
    assert connect("cpu") == ALONE
    assert not dist.is_initialized()
    disconnect()


def test_one_process_agrees_with_itself() -> None:
    tensor = torch.ones(3, 2, requires_grad=True)
    total = ALONE.sum_over_ranks(tensor)
    assert torch.equal(total, tensor) and not total.requires_grad
    assert total.data_ptr() != tensor.data_ptr()
    assert ALONE.gather_rows(tensor) is tensor
    assert ALONE.any_over_ranks(True) and not ALONE.any_over_ranks(False)
    ALONE.require_same("the recipe", "text")


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, (3, 8, 1)),
        ({"SLURM_PROCID": "5", "SLURM_NTASKS": "6", "SLURM_LOCALID": "2"}, (5, 6, 2)),
        ({"RANK": "0", "WORLD_SIZE": "2", "SLURM_PROCID": "5", "SLURM_NTASKS": "6"}, (0, 2, 0)),
        ({"SLURM_NTASKS": "6"}, (0, 1, 0)),  # salloc's shell: no task of a step
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, (0, 1, 0)),
    ],
)
def test_place_among_the_processes(variables: dict[str, str], place: tuple[int, int, int]) -> None:
    assert world._place(variables) == place


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RANK": "one", "WORLD_SIZE": "2"}, "RANK, WORLD_SIZE, LOCAL_RANK must be whole numbers"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2 is not below WORLD_SIZE=2"),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, "2 processes need MASTER_ADDR to meet"),
    ],
)
def test_a_wrong_environment_says_what_to_do(
    variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        connect("cpu")


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("count", "choice", "local_rank", "device"),
    [
        (0, "auto", 3, "cpu"),
        (4, "cpu", 3, "cpu"),
        (4, "auto", 3, "cuda:3"),
        (1, "cuda", 3, "cuda:0"),  # a scheduler that shows each task its own GPU only
    ],
)
def test_device(
    count: int,
    choice: world.DeviceChoice,
    local_rank: int,
    device: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpus(monkeypatch, count)
    assert world._device(choice, local_rank) == torch.device(device)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 0)
    with pytest.raises(ValueError, match="torch sees no GPU; use device=cpu"):
        connect("cuda")
    gpus(monkeypatch, 2)
    with pytest.raises(ValueError, match="process 2 of this machine has no GPU of its own"):
        world._device("cuda", 2)


@pytest.mark.parametrize(
    "error",
    [
        dist.DistBackendError("NCCL error: unhandled system error"),
        RuntimeError("[/third_party/gloo/gloo/transport/tcp/pair.cc:1] Connection closed by peer"),
    ],
)
def test_a_failed_collective_is_told_in_one_line(error: RuntimeError) -> None:
    second = lost_ranks_named(World(1, 2, 0, ALONE.device))
    with pytest.raises(LostRankError, match="rank 1 of 2: another rank died"), second:
        raise error


def test_an_error_of_this_rank_is_not_put_on_another() -> None:
    own = RuntimeError("DataLoader timed out: Connection reset by the store of pictures")
    second = lost_ranks_named(World(1, 2, 0, ALONE.device))
    with pytest.raises(RuntimeError, match="DataLoader") as caught, second:
        raise own
    assert caught.value is own


def test_ranks_that_do_not_come_are_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    variables = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(LostRankError, match=f"could not meet the others at 127.0.0.1:{port}: "):
        connect("cpu", timeout=1)
