"""torchtext's datasets on tiny archives in the published layout."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flava_plugin import registry
from tests.torchtext_stack.tiny_archives import expect, packed, place

pytestmark = pytest.mark.torchtext


def build(root: Path, task: str, split: str, **options: Any) -> Any:
    return registry.datasets.build(
        "torchtext_sentences", path=root, task=task, split=split, **options
    )


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("task", "split", "rows"),
    [
        ("sst2", "train", [("a fine film", 1), ("dull", 0)]),
        ("sst2", "dev", [("so so", 0)]),
        ("sst2", "test", [("unseen words .", None)]),
        ("cola", "train", [('"Quoted he said.', 0), ("Fine.", 1)]),
        ("stsb", "dev", [('A "man walks. | A man is walking.', 2.5)]),
        (
            "mnli",
            "dev_matched",
            [("It rains. | It is dry.", 2), ("It rains. | It is cold.", 1)],
        ),  # noqa: E501
        ("qnli", "dev", [("Who? | She did.", 0), ("Why? | She did.", 1)]),
        ("rte", "test", [("One. | Two.", None)]),
        ("mrpc", "test", [('He "left. | He went.', 1)]),
        ("qqp", "train", [('What "is" it? | What?', 0)]),
        ("ag_news", "test", [("Stocks up They rose.", 2), ("World News.", 0)]),
    ],
)
def test_rows_of_a_split(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    task: str,
    split: str,
    rows: list[tuple[str, float | None]],
) -> None:
    place(task, tmp_path, monkeypatch, rows=len(rows))
    before = files(tmp_path)
    dataset = build(tmp_path, task, split)
    samples = [dataset.read(index) for index in range(len(dataset))]
    texts = [tuple(filter(None, (sample.text, sample.second_text))) for sample in samples]
    labels = [sample.extra.get("label") for sample in samples]
    assert texts == [tuple(text.split(" | ")) for text, _ in rows]
    assert labels == [label for _, label in rows]
    assert dataset.read_text(len(rows) - 1) == texts[-1][0]
    sizes = dataset.text_sizes(np.arange(len(rows)))
    assert sizes.tolist() == [sum(len(text.encode()) for text in pair) for pair in texts]
    assert files(tmp_path) == before  # nothing extracted, no promise left
    assert not caplog.records


def test_a_row_that_torchtext_loses_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place("cola", tmp_path, monkeypatch, rows=3)
    assert len(build(tmp_path, "cola", "train")) == 2
    assert "reads 2 rows of split train and states 3" in caplog.text


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    told = r"datasets/SST2/SST-2\.zip: no such file; put https://\S+/SST-2\.zip there \(md5 9f81648"
    with pytest.raises(ValueError, match=told):
        build(tmp_path, "sst2", "train")
    assert files(tmp_path) == []


@pytest.mark.parametrize("download", [False, True])
def test_another_archive_is_refused_and_kept(tmp_path: Path, download: bool) -> None:
    file = tmp_path / "datasets" / "RTE" / "RTE.zip"
    file.parent.mkdir(parents=True)
    file.write_bytes(packed("rte")[:-7])
    with pytest.raises(ValueError, match=r"RTE\.zip: is another file than torchtext reads"):
        build(tmp_path, "rte", "train", download=download)
    assert file.read_bytes() == packed("rte")[:-7] and len(files(tmp_path)) == 1


def test_a_broken_archive_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = place("rte", tmp_path, monkeypatch)
    file.write_bytes(b"no zip at all")
    expect("rte", file.read_bytes(), monkeypatch, None)
    with pytest.raises(ValueError, match="torchtext cannot read RTE, split train") as refused:
        build(tmp_path, "rte", "train")
    assert "\n" not in str(refused.value)
    assert files(tmp_path) == ["datasets/RTE/RTE.zip"]


def test_a_split_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mrpc has no split 'dev', only train, test"):
        build(tmp_path, "mrpc", "dev")
    with pytest.raises(ValueError, match="mnli has no split 'dev', only train, dev_matched"):
        build(tmp_path, "mnli", "dev")


def test_a_folder_that_cannot_be_written_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data sets are often shared and not one's own; a cut extraction beside them is passed over."""
    file = place("rte", tmp_path, monkeypatch, rows=40)
    (file.parent / "RTE").mkdir()
    (file.parent / "RTE" / "train.tsv").write_text("index\ts1\ts2\tlabel\n0\tA\tB\tentail")
    for folder in (file.parent, file.parents[1], tmp_path):
        folder.chmod(0o555)
    try:
        assert len(build(tmp_path, "rte", "train")) == 40
    finally:
        for folder in (tmp_path, file.parents[1], file.parent):
            folder.chmod(0o755)


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A web server on this machine that has the archive of RTE, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802  # its name in the standard library
            asked.append(self.path)
            body = packed("rte") if self.path == "/RTE.zip" else b""
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}", asked
        found.shutdown()
        thread.join()


def test_a_download_is_kept_and_asked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: tuple[str, list[str]]
) -> None:
    address, asked = server
    module = importlib.import_module("torchtext.datasets.rte")
    monkeypatch.setattr(module, "URL", f"{address}/RTE.zip")
    expect("rte", packed("rte"), monkeypatch, 40)
    with pytest.raises(ValueError, match="download: true"):
        build(tmp_path, "rte", "train")
    assert asked == []
    for _ in range(2):
        assert len(build(tmp_path, "rte", "train", download=True)) == 40
    assert asked == ["/RTE.zip"] and files(tmp_path) == ["datasets/RTE/RTE.zip"]


def test_a_failed_download_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: tuple[str, list[str]]
) -> None:
    module = importlib.import_module("torchtext.datasets.rte")
    monkeypatch.setattr(module, "URL", f"{server[0]}/gone.zip")
    with pytest.raises(ValueError, match="torchtext cannot read RTE, split train: .*404"):
        build(tmp_path, "rte", "train", download=True)
    assert files(tmp_path) == []
