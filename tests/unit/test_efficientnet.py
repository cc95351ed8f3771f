from __future__ import annotations

import pytest
import torch
from torchvision.models import efficientnet_b0, efficientnet_b7

from flava_plugin.components.efficientnet import EfficientNetImage
from flava_plugin.model.backbone import draws


def small(**options: float) -> EfficientNetImage:
    torch.manual_seed(0)
    return EfficientNetImage(
        width_factor=0.25, depth_factor=0.3, **{"stochastic_depth": 0.0} | options
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("factors", "theirs"), [((1.0, 1.0), efficientnet_b0), ((2.0, 3.1), efficientnet_b7)]
)
def test_the_factors_give_torchvision_s_sizes(factors: tuple[float, float], theirs) -> None:  # type: ignore[no-untyped-def]
    with torch.device("meta"):
        own = EfficientNetImage(width_factor=factors[0], depth_factor=factors[1])
        other = theirs()
    convolutions = [[p.shape for name, p in m.features.named_parameters()] for m in (own, other)]
    assert convolutions[0] == convolutions[1]
    assert own.width == other.classifier[-1].in_features


def test_a_row_depends_on_itself_alone_also_in_training() -> None:
    """A batch norm would fail this, and with it every rule on how rows fall into batches."""
    encoder = small().train()
    pictures = torch.randn(5, 3, 48, 48)
    together = encoder(pictures)[1]
    alone = torch.cat([encoder(each[None])[1] for each in pictures])
    assert together.shape == (5, 1, encoder.width)
    assert torch.allclose(together, alone, atol=1e-5)
    assert not list(encoder.buffers())


def test_it_says_whether_it_draws() -> None:
    assert not any(map(draws, small().modules()))
    assert any(map(draws, small(stochastic_depth=0.2).modules()))


def test_the_stem_s_stride_keeps_more_of_a_small_picture() -> None:
    picture = torch.randn(1, 3, 48, 48)
    sizes = [small(stem_stride=stride).features(picture).shape[-1] for stride in (1, 2)]
    assert sizes == [3, 2]


def test_hidden_patches_are_refused() -> None:
    with pytest.raises(ValueError, match=r"EfficientNetImage has no mask token.*flava_image"):
        small()(torch.zeros(1, 3, 48, 48), torch.ones(1, 36, dtype=torch.bool))
