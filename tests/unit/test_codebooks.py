"""Codebooks: k-means, the file, looking up codes, and fitting one from the command line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from flava_plugin import registry
from flava_plugin.cli.main import main
from flava_plugin.components.codebooks import KMeansPatches
from flava_plugin.data.codebook_file import CodebookInfo, codebook_file
from flava_plugin.data.kmeans import balance, fit_kmeans, nearest, to_patches


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_patches_are_cut_in_the_order_of_the_encoder() -> None:
    image = torch.arange(2 * 3 * 4 * 6).float().view(2, 3, 4, 6)
    cut = to_patches(image, 2)
    assert cut.shape == (2, 6, 12)
    assert torch.equal(cut[1, 4].view(3, 2, 2), image[1, :, 2:4, 2:4])


def test_nearest_is_the_nearest() -> None:
    points, centroids = torch.randn(50, 7, generator=seeded()), torch.randn(9, 7)
    wanted = torch.cdist(points.double(), centroids.double()).argmin(1)
    assert torch.equal(nearest(points, centroids), wanted)
    assert nearest(points.view(5, 10, 7), centroids).shape == (5, 10)
    assert nearest(torch.ones(1, 2), torch.ones(3, 2)).item() == 0


def test_kmeans_finds_what_is_there() -> None:
    middles = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0], [5.0, 5.0]])
    points = middles.repeat_interleave(torch.tensor([40, 30, 20, 10]), dim=0)
    points = points + 0.1 * torch.randn(points.shape, generator=seeded())
    centroids = fit_kmeans(points, 4, generator=seeded(1))
    assert torch.allclose(centroids, middles, atol=0.15)  # the most frequent first
    assert torch.equal(centroids, fit_kmeans(points, 4, generator=seeded(1)))
    with pytest.raises(ValueError, match="cannot fit"):
        fit_kmeans(points[:3], 4, generator=seeded())
    with pytest.raises(ValueError, match="of 1 kinds only"):
        fit_kmeans(torch.ones(10, 2), 4, generator=seeded())


def test_flat_patches_are_thinned_out() -> None:
    flat = torch.full((100, 12), 0.5)
    rich = torch.rand(20, 12, generator=seeded())
    kept = balance(torch.cat([flat, rich]), generator=seeded())
    assert len(kept) == 25 and torch.equal(kept[:20], rich)
    assert len(balance(flat, generator=seeded())) == 100


@pytest.fixture
def embedded() -> KMeansPatches:
    codebook: KMeansPatches = registry.codebooks.build("kmeans_patches")
    return codebook


def pictures(count: int) -> torch.Tensor:
    dataset = registry.datasets.build("shapes_pairs", split="dev")
    rows = [np.asarray(dataset.read(index).image, np.float32) for index in range(count)]
    return torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2) / 255


def test_the_embedded_codebook_tells_the_embedded_pictures_apart(embedded: KMeansPatches) -> None:
    images = pictures(200)
    codes = embedded(images)
    assert codes.shape == (200, 36) and codes.dtype == torch.long
    assert embedded.num_codes == 256 and embedded.patch_size == 8
    assert not list(embedded.parameters())
    shares = codes.flatten().bincount(minlength=256) / codes.numel()
    assert shares.max() < 0.2  # three times the majority must be within reach
    assert (shares > 0).sum() > 150
    drawn = embedded.decode(codes)
    assert drawn.shape == (200, 36, 3, 8, 8)
    error = (drawn - to_patches(images, 8).view(drawn.shape)).square().mean()
    assert error < 0.25 * images.var()


def test_codes_do_not_depend_on_autocast(embedded: KMeansPatches) -> None:
    images = pictures(20)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(embedded(images), embedded(images.clone()))
        mixed = embedded(images)
    assert torch.equal(mixed, embedded(images))


def test_a_picture_that_does_not_fit_the_patches_is_refused(embedded: KMeansPatches) -> None:
    with pytest.raises(ValueError, match=r"50 x 48 .* data\.image\.codebook_size"):
        embedded(torch.zeros(1, 3, 50, 48))


def test_a_file_that_is_no_codebook_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    path.write_bytes(b"junk")
    with pytest.raises(ValueError, match="no file of 'flava data fit-codebook'"):
        registry.codebooks.build("kmeans_patches", path=path)
    save_file({"centroids": torch.zeros(2, 12)}, path)
    with pytest.raises(ValueError, match="no file of"):
        registry.codebooks.build("kmeans_patches", path=path)
    tensors, metadata = codebook_file(torch.zeros(2, 12), CodebookInfo(4, (0.0, 1.0), "x"))
    save_file(tensors, path, metadata)
    with pytest.raises(ValueError, match="patches of 4 pixels need"):
        registry.codebooks.build("kmeans_patches", path=path)


def test_fit_codebook_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outs = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for out in outs:
        words = ["shapes_images", "seed=2", "--images", "40", "--codes", "16", "--image-size", "48"]
        assert main(["data", "fit-codebook", *words, "--patch-size", "12", "--out", str(out)]) == 0
    assert "16 codes of 12 x 12 pixels" in capsys.readouterr().out
    assert outs[0].read_bytes() == outs[1].read_bytes()
    codebook = registry.codebooks.build("kmeans_patches", path=outs[0])
    assert codebook.source == "shapes_images seed=2" and codebook.pixel_range == (0.0, 1.0)
    assert codebook(pictures(3)).shape == (3, 16)


def test_fit_codebook_takes_pictures_of_any_size(tmp_path: Path) -> None:
    for number in range(4):
        noise = np.random.default_rng(number).integers(0, 256, (40 + number, 30, 4), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{number}.png")
    out = tmp_path / "c.safetensors"
    for words in (["image_folder", f"path={tmp_path}"], [str(tmp_path)]):
        command = ["data", "fit-codebook", *words, "--codes", "8", "--image-size", "32"]
        assert main([*command, "--out", str(out)]) == 0
        assert registry.codebooks.build("kmeans_patches", path=out).num_codes == 8
        out.unlink()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["image_foldr"], 2, "did you mean 'image_folder'"),
        (["image_folder", "path=nowhere"], 2, "nowhere"),
        (["shapes_images", "objects=7"], 2, "objects"),
        (["shapes_images", "--image-size", "50"], 1, "the nearest is 48"),
        (["shapes_images", "--images", "1", "--image-size", "16"], 1, "cannot fit 256 codes"),
        (["shapes_sentences"], 1, "no picture"),
    ],
)
def test_fit_codebook_refuses(
    words: list[str],
    code: int,
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["data", "fit-codebook", "--out", str(tmp_path / "c"), *words]) == code
    assert told in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
