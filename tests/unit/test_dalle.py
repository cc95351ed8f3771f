"""The codebook ``dalle_dvae``: the numbers of both public implementations, and work left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F  # noqa: N812, the name every torch user expects
from torchmultimodal.models.flava.model import DalleEncoder

from flava_plugin.components import dalle
from flava_plugin.components.dalle import DalleCodes, dalle_dvae
from flava_plugin.components.winograd import convolve, transform_kernel
from flava_plugin.data.dalle_file import channels_last, check_shapes, shapes_of
from flava_plugin.types import IGNORE

HIDDEN, CODES = 16, 40


def pictures(count: int, height: int = 32, width: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 0.1 + 0.8 * torch.rand(count, 3, height, width, generator=generator)


@pytest.fixture
def upstream() -> Iterator[DalleEncoder]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = DalleEncoder(n_hid=HIDDEN, vocab_size=CODES)
        for name, value in encoder.named_parameters():
            if name.endswith(".b"):  # upstream starts them at 0, which would hide a lost one
                torch.nn.init.normal_(value, std=0.1)
        yield encoder.eval().requires_grad_(False)


def codebook(upstream: DalleEncoder, winograd: bool = True) -> DalleCodes:
    state = {name: channels_last(value) for name, value in upstream.state_dict().items()}
    return DalleCodes(state, winograd=winograd)


@pytest.mark.parametrize("winograd", [False, True])
@pytest.mark.parametrize("size", [(32, 32), (40, 24), (112, 112)])
def test_codes_are_those_of_torchmultimodal(
    upstream: DalleEncoder, size: tuple[int, int], winograd: bool
) -> None:
    ours, images = codebook(upstream, winograd), pictures(3, *size)
    wanted = upstream(images)
    assert (ours.logits(images) - wanted).abs().max() < 1e-4
    assert torch.equal(ours(images), wanted.argmax(1).flatten(1))
    assert ours.num_codes == CODES and ours(images).dtype == torch.long


def test_codes_are_those_of_hugging_face(upstream: DalleEncoder) -> None:
    flava = pytest.importorskip("transformers.models.flava.modeling_flava")
    config = flava.FlavaImageCodebookConfig(hidden_size=HIDDEN, vocab_size=CODES)
    theirs = flava.FlavaImageCodebook(config).eval()
    theirs.load_state_dict(hugging_face_names(upstream.state_dict()))
    images = pictures(3)
    indices = theirs.get_codebook_indices(images).flatten(1)
    assert torch.equal(codebook(upstream)(images), indices)


def hugging_face_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, value in state.items():
        name = name.replace(".block_", ".group.block_").replace("res_path", "res_path.path")
        renamed[name[:-1] + {"w": "weight", "b": "bias"}[name[-1]]] = value
    return renamed


def test_only_wanted_codes_are_computed(
    upstream: DalleEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, images = codebook(upstream), pictures(4)
    wanted = torch.rand(4, 16, generator=torch.Generator().manual_seed(2)) < 0.4
    wanted[1] = False
    monkeypatch.setattr(dalle, "ROWS_AT_ONCE", 5)
    seen: list[int] = []
    hidden, logits = ours.hidden, ours._logits

    def watch_pictures(image: Tensor) -> Tensor:
        seen.append(len(image))
        return hidden(image)

    def watch_rows(rows: Tensor) -> Tensor:
        seen.append(len(rows))
        return logits(rows)

    monkeypatch.setattr(ours, "hidden", watch_pictures)
    monkeypatch.setattr(ours, "_logits", watch_rows)
    codes = ours.codes_at(images, wanted)
    assert seen[0] == 3 and sum(seen[1:]) == wanted.sum() and max(seen[1:]) == 5
    assert torch.equal(codes, ours(images).where(wanted, torch.tensor(IGNORE)))
    seen.clear()
    assert (ours.codes_at(images, torch.zeros_like(wanted)) == IGNORE).all() and not seen


def test_precision_does_not_depend_on_autocast_and_no_graph_is_kept(upstream: DalleEncoder) -> None:
    ours, images = codebook(upstream), pictures(2).requires_grad_()
    alone = ours.logits(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ours.logits(images), alone)
        assert torch.equal(ours(images), alone.argmax(1).flatten(1))
    assert not alone.requires_grad and not any(p.requires_grad for p in ours.parameters())


def test_the_given_picture_is_left_as_it_was(upstream: DalleEncoder) -> None:
    images = pictures(2).contiguous(memory_format=torch.channels_last)
    before = images.clone()
    codebook(upstream)(images)
    assert torch.equal(images, before)


def test_a_move_keeps_the_layout(upstream: DalleEncoder) -> None:
    ours = codebook(upstream, winograd=False)
    moved = ours.to("meta")
    kernels = [p for p in moved.parameters() if p.dim() == 4 and p.shape[-1] > 1]
    assert kernels
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)


def test_pixels_beyond_the_range_are_refused(upstream: DalleEncoder) -> None:
    with pytest.raises(ValueError, match=r"set data\.image\.codebook_range: \[0\.1, 0\.9\]"):
        codebook(upstream)((pictures(1) - 0.1) / 0.8)


def test_shapes_that_do_not_fit_are_refused(upstream: DalleEncoder) -> None:
    ours = codebook(upstream)
    with pytest.raises(ValueError, match=r"36 x 32 is no whole number .*codebook_size"):
        ours(pictures(1, 36, 32))
    with pytest.raises(ValueError, match=r"wanted is \(1, 9\), .* 1 x 16 patches"):
        ours.codes_at(pictures(1), torch.ones(1, 9, dtype=torch.bool))


def test_a_file_becomes_a_codebook(upstream: DalleEncoder, tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    save_file(upstream.state_dict(), path)
    built = dalle_dvae(path=path)
    assert torch.equal(built(pictures(2)), upstream(pictures(2)).argmax(1).flatten(1))
    path.write_bytes(b"junk")
    with pytest.raises(ValueError, match="no safetensors file .*flava weights dalle"):
        dalle_dvae(path=path)


def test_each_wrong_tensor_is_named() -> None:
    shapes = shapes_of(HIDDEN, CODES, 2)
    assert check_shapes(shapes, "f") == (HIDDEN, CODES, 2)
    shapes["more.w"] = shapes.pop("blocks.group_2.block_1.id_path.w")
    shapes["blocks.group_1.block_1.res_path.conv_1.b"] = (7,)
    with pytest.raises(ValueError, match="f: no encoder of DALL-E") as refused:
        check_shapes(shapes, "f")
    for told in (r"missing: blocks.group_2.block_1.id_path.w", "unknown: more.w", "(7,) instead"):
        assert told in str(refused.value)
    with pytest.raises(ValueError, match=r"blocks\.input\.w is missing"):
        check_shapes({"centroids": (2, 12)}, "f")


def test_the_published_size_is_torchmultimodals() -> None:
    with torch.device("meta"):
        published = {n: tuple(p.shape) for n, p in DalleEncoder().named_parameters()}
    assert shapes_of(256, 8192, 2) == published


def test_winograd_is_a_convolution() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(2, 6, 10, 5, generator=generator)
    kernel = torch.randn(7, 5, 3, 3, generator=generator)
    bias = torch.randn(7, generator=generator)
    wanted = F.conv2d(
        pixels.permute(0, 3, 1, 2).double(), kernel.double(), bias.double(), padding=1
    )
    found = convolve(pixels, transform_kernel(kernel), bias).permute(0, 3, 1, 2)
    assert (found - wanted).abs().max() < 1e-5
