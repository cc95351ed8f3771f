from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flava_plugin.launch.cluster import FLAGS, Profile, clusters_folder, load_profile
from flava_plugin.launch.cluster_values import clock, dependency, minutes

BUILT_IN = sorted(clusters_folder().glob("*.yaml"))


def read(folder: Path, text: str) -> tuple[Profile, list[str]]:
    path = folder / "cluster.yaml"
    path.write_text(text)
    return load_profile(str(path), {})[:2]


@pytest.mark.parametrize("path", BUILT_IN, ids=lambda path: path.stem)
def test_a_built_in_profile_is_found_by_name_and_fine(path: Path) -> None:
    profile, errors, _ = load_profile(path.stem, {})
    assert not errors
    assert profile.time


def test_the_example_shows_every_key_and_every_flag() -> None:
    text = (clusters_folder() / "example.yaml").read_text()
    for key, flag in FLAGS.items():
        assert f"{key}:" in text, key
        assert flag in text, flag
    assert set(FLAGS) == set(Profile.model_fields)


def test_a_profile_without_errors_keeps_its_values(tmp_path: Path) -> None:
    profile, errors = read(
        tmp_path, "account: 1234\nnodes: 2-4\ngpus_per_node: 8\nenvironment: {A: 1}\n"
    )
    assert not errors
    assert (profile.account, profile.nodes, profile.tasks) == ("1234", (2, 4), 8)
    assert profile.worlds == [16, 24, 32]
    assert profile.environment == {"A": "1"}


@pytest.mark.parametrize(
    ("written", "expected"),
    [("90", 90), ("24:00:00", 1440), ("'0:30:01'", 31), ("2-00:00:00", 2880), ("1:30:00 # x", 90)],
)
def test_a_walltime_is_read_as_it_is_written(tmp_path: Path, written: str, expected: int) -> None:
    """YAML itself reads 24:00:00 as 86400."""
    profile, errors = read(tmp_path, f"nodes: 1\ntime: {written}\n")
    assert not errors
    assert profile.time == expected


def test_a_walltime_is_written_as_it_is_read() -> None:
    assert [clock(m) for m in (5, 90, 2881)] == ["00:05:00", "01:30:00", "2-00:01:00"]
    assert [minutes(clock(m)) for m in (5, 90, 2881)] == [5, 90, 2881]


BAD = [
    ("partitoin: x", "partitoin: unknown key; did you mean 'partition'? (got 'x')"),
    ("ngpus: 8", "did you mean 'gpus_per_node'?"),
    ("gres: gpu:8", "did you mean 'sbatch: {gres: ...}'?"),
    ("zzzz: 8", "zzzz: unknown key; known: partition, account"),
    ("nodes: 0", "nodes: should be at least 1"),
    ("nodes: 4-2", "a range should go up"),
    ("nodes: all", "nodes: should be a number of nodes, or a range such as 2-4 (got 'all')"),
    ("time: soon", "time: should be minutes, HH:MM:SS or D-HH:MM:SS (got 'soon')"),
    ("time: 10:30", "time: should be minutes"),
    ("time: 0", "time: should be at least a minute"),
    ("gpus_per_node: -1", "gpus_per_node: should be greater than or equal to 0"),
    ("gpus_per_node: yes", "gpus_per_node: should be a number, not a truth value"),
    ("tasks_per_node: 0", "tasks_per_node: should be greater than 0"),
    ("mem_gb: lots", "mem_gb: should be a valid number"),
    ("account: on", "account: is read as a truth value; put it in quotes"),
    ("qos: ''", "qos: should not be empty"),
    ('comment: "a\\nb"', "comment: should be one line"),
    ("setup: module load x", "setup: should be a valid list"),
    ("environment: {A B: 1}", "environment.A B: is no name of an environment variable"),
    ("environment: {MASTER_PORT: 1}", "MASTER_PORT: is set by each attempt of a job itself"),
    ("sbatch: {array: 0-3}", "sbatch.array: is written by the launcher: use --sweep"),
    ("sbatch: {nice: [1]}", "sbatch.nice: should be text, a number, or true"),
    ("signal_delay_s: 70000", "signal_delay_s: should be less than or equal to 65535"),
    ("requeues: -1", "requeues: should be greater than or equal to 0"),
    ("nodes: 1\nnodes: 2", "line 2: key 'nodes' stands twice"),
    ("- nodes", "holds a list, not the keys of a profile"),
    ("nodes: !!python/name:os.system", "tags are refused"),
]


@pytest.mark.parametrize(("text", "expected"), BAD, ids=[text for text, _ in BAD])
def test_a_broken_profile_is_refused_with_place_value_and_way_out(
    tmp_path: Path, text: str, expected: str
) -> None:
    _, errors = read(tmp_path, text + "\n")
    assert len(errors) == 1
    assert errors[0].startswith(f"{tmp_path / 'cluster.yaml'}: ")
    assert expected in errors[0]


def test_all_errors_come_at_once_and_the_rest_still_counts(tmp_path: Path) -> None:
    bad = [text for text, _ in BAD if text.split(":")[0] in ("partitoin", "time", "qos", "mem_gb")]
    text = "\n".join({line.split(":")[0]: line for line in bad}.values())
    profile, errors = read(tmp_path, f"{text}\nnodes: 3\nenvironment: {{A B: 1, RANK: 0}}\n")
    assert len(errors) == 6
    assert profile.nodes == (3, 3)


def test_a_flag_goes_over_its_key_and_is_named_where_it_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text("nodes: 1\nsetup: [a]\nenvironment: {A: 1, B: 1}\nsbatch: {nice: 1}\n")
    flags = {"nodes": "3", "setup": ["b"], "environment": {"B": "2"}, "sbatch": {"hold": True}}
    profile, errors, _ = load_profile(str(path), flags)
    assert not errors
    assert (profile.nodes, profile.setup) == ((3, 3), ["b"])
    assert profile.environment == {"A": "1", "B": "2"}
    assert profile.sbatch == {"nice": "1", "hold": True}
    _, errors, bad = load_profile(str(path), {"nodes": "x", "environment": {"1": "2"}})
    assert bad == {"nodes", "environment"}
    assert [error.split(": ")[0] for error in errors] == ["--nodes", "--env 1"]


def test_an_unknown_profile_is_refused_with_the_nearest_name() -> None:
    _, errors, _ = load_profile("local_clustre", {})
    assert errors == [
        "--cluster: 'local_clustre' is no file and no built-in profile; did you mean "
        "'local_cluster'?"
    ]


@pytest.mark.parametrize(
    "text",
    ["afterok:1", "afterok:1:2", "afterok:1,afterany:2", "afterok:1?afternotok:2_3", "singleton"],
)
def test_a_dependency_as_slurm_writes_it_is_fine(text: str) -> None:
    assert dependency(text) == text


@pytest.mark.parametrize("text", ["afterok", "afterok:", "afterok:x", "afterok:1,afterany:2?a", ""])
def test_a_dependency_that_slurm_would_not_take_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="afterok:123"):
        dependency(text)


def test_the_schema_imports_no_torch() -> None:
    program = "import sys, flava_plugin.launch.cluster; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
