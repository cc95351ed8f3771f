from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from flava_plugin import registry
from flava_plugin.components.encoders import flava_fused, flava_image, flava_text

SMALL = {"layers": 1, "width": 16, "heads": 2}


def test_image_encoder_says_its_sizes() -> None:
    encoder = flava_image(**SMALL, image_size=32, patch_size=8)
    assert (encoder.width, encoder.num_patches, encoder.image_size) == (16, 16, 32)
    last, states = encoder(torch.zeros(2, 3, 32, 32))
    assert last.shape == states.shape == (2, 17, 16)


def test_mask_token_stands_in_for_hidden_patches() -> None:
    encoder = flava_image(**SMALL, image_size=32, patch_size=8)
    image, other = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
    other[..., :8, :8] = 1.0
    hidden = torch.zeros(1, 16, dtype=torch.bool)
    hidden[0, 0] = True
    assert torch.equal(encoder(image, hidden)[0], encoder(other, hidden)[0])
    assert not torch.equal(encoder(image)[0], encoder(other)[0])


def test_another_image_size_gets_resized_positions() -> None:
    encoder = flava_image(**SMALL, image_size=32, patch_size=8)
    with torch.no_grad():
        encoder.embeddings.position_embeddings.normal_()
    assert encoder(torch.zeros(2, 3, 48, 64))[0].shape == (2, 1 + 6 * 8, 16)
    with pytest.raises(ValueError, match="48 x 50 pixels does not divide into patches of 8"):
        encoder(torch.zeros(2, 3, 48, 50))


def test_a_480_pixel_image_fits_the_base_encoder() -> None:
    encoder = flava_image(**SMALL)
    assert encoder(torch.zeros(1, 3, 480, 480))[0].shape == (1, 901, 16)


def test_image_size_must_be_a_multiple_of_the_patch() -> None:
    with pytest.raises(ValueError, match="image_size 30 is not a multiple of patch_size 8"):
        flava_image(**SMALL, image_size=30, patch_size=8)


def test_text_longer_than_the_positions_is_refused() -> None:
    encoder = flava_text(20, **SMALL, max_positions=8)
    assert encoder(torch.ones(2, 8, dtype=torch.long))[1].shape == (2, 8, 16)
    with pytest.raises(ValueError, match="9 tokens is longer than .*max_positions 8; raise it"):
        encoder(torch.ones(2, 9, dtype=torch.long))


def test_fused_encoder_puts_its_class_token_first() -> None:
    encoder = flava_fused(**SMALL)
    padding = torch.tensor([[True, True, False]])
    assert encoder(torch.zeros(1, 3, 16), padding).shape == (1, 4, 16)


@pytest.mark.parametrize("option", [{"layers": 0}, {"width": -4}, {"dropout": 1.0}, {"depth": 3}])
def test_impossible_options_are_refused_by_the_schema(option: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        registry.encoders.schema("flava_fused")(**option)
