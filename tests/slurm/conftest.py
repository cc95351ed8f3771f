"""A real SLURM for the tests of this folder; where it is not installed they say how to get it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm.local_cluster import Cluster, missing_programs


@pytest.fixture(scope="session")
def slurm_installed() -> None:
    if missing := missing_programs():
        pytest.skip(missing)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder for a cluster: pytest's own have names too long for the sockets below them."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def cluster(slurm_installed: None) -> Iterator[Cluster]:
    """Two nodes of four CPUs and two GPUs in name; every test finds both idle."""
    with (
        tempfile.TemporaryDirectory(prefix="slurm-") as folder,
        Cluster(folder, nodes=2, cpus=4, gpus=2) as running,
    ):
        yield running


@pytest.fixture(autouse=True)
def idle_again(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave no job and no broken node to the next test on the same cluster."""
    yield
    if "cluster" not in request.fixturenames:
        return
    shared: Cluster = request.getfixturevalue("cluster")
    shared.cancel_jobs()
    up = {process.node for process in shared.processes() if process.name == "slurmd"}
    for name in shared.node_names:
        if name not in up:
            shared.restart_node(name)
    shared.wait_idle()
