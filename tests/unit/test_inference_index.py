"""An index finds what a comparison with everything finds, in memory and from a folder."""

import tracemalloc
from pathlib import Path

import pytest
import torch
from inference_run import write_run
from torch.nn.functional import normalize

from flava_plugin.evaluate import index as index_module
from flava_plugin.evaluate.flava import Flava
from flava_plugin.evaluate.index import Index, build_index
from flava_plugin.evaluate.inference import load
from flava_plugin.registry import datasets

ROWS, WIDTH = 103, 8


@pytest.fixture(scope="module")
def flava(tmp_path_factory: pytest.TempPathFactory) -> Flava:
    return load(write_run(tmp_path_factory.mktemp("run")))


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "PART_ROWS", 10)
    monkeypatch.setattr(index_module, "QUERY_ROWS", 3)


def vectors(rows: int, seed: int) -> torch.Tensor:
    dice = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(rows, WIDTH, generator=dice), dim=-1)


def names(rows: int) -> list[str]:
    return [f"n\u00famero {row}" for row in range(rows)]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("in_folder", [False, True])
def test_it_finds_what_comparing_everything_finds(
    flava: Flava, tmp_path: Path, in_folder: bool
) -> None:
    held, queries = vectors(ROWS, 0), vectors(7, 1)
    rows = zip(names(ROWS), held, strict=True)
    index = build_index(flava, rows, tmp_path / "index" if in_folder else None)
    assert len(index) == ROWS
    found = index.search(queries, 12)
    expected = (queries @ held.T).sort(dim=1, descending=True, stable=True)
    for row, hits in enumerate(found):
        assert [hit.name for hit in hits] == [
            names(ROWS)[place] for place in expected.indices[row, :12]
        ]
        scores = torch.tensor([hit.score for hit in hits])
        assert torch.allclose(scores, expected.values[row, :12], atol=1e-6)
    assert len(index.search(queries, 1000)[0]) == ROWS


@pytest.mark.usefixtures("small_parts")
def test_of_equal_ones_the_first_is_found_first(flava: Flava) -> None:
    same = torch.zeros(WIDTH)
    same[0] = 1.0
    index = build_index(flava, ((name, same) for name in names(35)))
    for sign in (1.0, -1.0):  # negative scores sort as well
        found = index.search(sign * same[None], 23)[0]
        assert [hit.name for hit in found] == names(23)
        assert found[0].score == sign


def test_texts_find_pictures_and_both_survive_the_disk(flava: Flava, tmp_path: Path) -> None:
    pairs = datasets.build("shapes_pairs", split="dev", size=9)
    samples = [pairs.read(number) for number in range(9)]
    pictures = [sample.image for sample in samples if sample.image is not None]
    index = flava.index(pictures)
    index.save(tmp_path / "saved")
    again = Index.load(tmp_path / "saved", flava)
    texts = [sample.text or "" for sample in samples]
    found = index.search(texts, 3)
    assert found == again.search(texts, 3)
    scores = flava.encode_text(texts) @ flava.encode_image(pictures).T
    assert [hits[0].name for hits in found] == [str(n) for n in scores.argmax(1).tolist()]
    itself = index.search(pictures[:2], 1)
    assert [hits[0].score for hits in itself] == pytest.approx([1.0, 1.0], abs=1e-5)
    by_text = flava.index(iter(["a red circle", "a blue square"]), "text")
    assert by_text.search(["a blue square"], 1)[0][0].name == "a blue square"


def test_a_long_stream_into_a_folder_takes_the_memory_of_a_part(
    flava: Flava, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "PART_ROWS", 100)
    row = vectors(1, 0)[0]
    tracemalloc.start()
    build_index(flava, ((f"{n:0>200}", row) for n in range(20_000)), tmp_path / "long")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000  # the names alone are 4 MB


def test_errors_name_the_place(flava: Flava, tmp_path: Path) -> None:
    index = build_index(flava, zip(names(3), vectors(3, 0), strict=True), tmp_path / "index")
    with pytest.raises(ValueError, match="exists already"):
        index.save(tmp_path / "index")
    with pytest.raises(ValueError, match="k is 0"):
        index.search(["red"], 0)
    with pytest.raises(ValueError, match=r"must be \(Q, 8\)"):
        index.search(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="no index here"):
        Index.load(tmp_path, flava)
    with pytest.raises(ValueError, match="fewer names than items"):
        flava.index(["a", "b"], "text", names=["one"])
    with pytest.raises(ValueError, match="more names than items"):
        flava.index(["a"], "text", names=["one", "two"])
    other = load(write_run(tmp_path / "other", "model.image_encoder.layers=1"))
    with pytest.raises(ValueError, match="another model"):
        Index.load(tmp_path / "index", other)
    (tmp_path / "index" / "part-00000.safetensors").unlink()
    with pytest.raises(ValueError, match="part of the index is missing"):
        Index.load(tmp_path / "index", flava)


def test_an_empty_index_finds_nothing(flava: Flava, tmp_path: Path) -> None:
    index = flava.index([], "text", folder=tmp_path / "empty")
    assert index.search(["red", "blue"], 3) == [[], []]
