"""What heads say they read, and what is then computed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_flava import LENGTH, PATCHES, image_batch, pair_batch, text_batch, tiny_learner
from torch import nn

from flava_plugin.model.reads import parse_needs, positions_of
from flava_plugin.types import Batch, predicted_positions

PAIRS = pair_batch(padded=True, negatives=1)


def test_positions_add_up_and_a_whole_field_wins() -> None:
    read = parse_needs(["fused.cls", "fused.words", "text_masked.words", "image", "image.cls"])
    assert read == {"fused": {"cls", "words"}, "text_masked": {"words"}, "image": None}


@pytest.mark.parametrize(
    "need", ["fusion", "fused.pixels", "image.words", "text_projected.cls", ""]
)
def test_a_need_that_does_not_exist_is_named(need: str) -> None:
    with pytest.raises(ValueError, match=f"a head needs '{need}', which is none of .*fused.words"):
        parse_needs([need])


def test_positions_stand_where_features_have_them() -> None:
    found = positions_of(PAIRS, "fused", frozenset({"cls", "patches", "words"}), 1 + PATCHES)
    assert found is not None and found.shape == (4, 2 + PATCHES + PAIRS.text.shape[1])  # type: ignore[union-attr]
    assert found[:, 0].all() and not found[:, 1].any()
    assert torch.equal(found[:, 2 : 2 + PATCHES], predicted_positions(PAIRS, "patches"))
    assert torch.equal(found[:, 2 + PATCHES :], predicted_positions(PAIRS, "words"))
    assert not found[0, 1:].any(), "a pair that does not match predicts nothing"
    assert positions_of(PAIRS, "fused", None, 1 + PATCHES) is None


@pytest.mark.parametrize(
    ("batch", "needs"),
    [
        (PAIRS, {"fused.cls", "fused.words", "fused.patches", "image_projected", "text_projected"}),
        (PAIRS, {"fused.cls", "text.cls", "image.cls", "image_masked.patches", "text_masked"}),
        (replace(PAIRS, patch_mask=None, text_masked=None, word_labels=None), {"fused.cls"}),
        (image_batch(), {"image_masked.patches"}),
        (image_batch(), {"image_masked.cls", "image"}),
        (text_batch(padded=True), {"text_masked.words", "text.cls"}),
    ],
)
@pytest.mark.parametrize("padding", ["masked", "released"])
def test_what_is_read_equals_the_whole(batch: Batch, needs: set[str], padding: str) -> None:
    backbone = tiny_learner(padding=padding).backbone
    asked = parse_needs(needs)
    some, whole = backbone(batch, frozenset(needs)), backbone(batch, frozenset(asked))
    for field, read in asked.items():
        found, expected = getattr(some, field), getattr(whole, field)
        if read is not None:
            mark = positions_of(batch, field, read, 1 + PATCHES)
            assert mark is not None
            if all(asked.values()) and "fused" not in asked:  # nobody reads a whole pass
                assert found[~mark].isnan().all()
            found, expected = found[mark], expected[mark]
        elif field.startswith("text") and not field.endswith("projected"):
            found, expected = found[batch.text_padding], expected[batch.text_padding]
        assert found.numel() and not found.isnan().any()
        torch.testing.assert_close(found, expected)


def tokens_through(learner: nn.Module, batch: Batch) -> dict[str, int]:
    """Tokens that the feed-forward block of each encoder's last layer sees in a training step."""
    counts: dict[str, int] = {}
    for name in ("image_encoder", "text_encoder", "mm_encoder"):
        last = getattr(learner.backbone, name).encoder.layer[-1]
        last.feedforward.model[0].register_forward_hook(
            lambda _m, inputs, _o, name=name: counts.update({name: len(inputs[0])})
        )
    learner(batch)
    return counts


def test_the_last_layers_compute_what_the_six_losses_read() -> None:
    batch = image_batch()
    hidden = int(predicted_positions(batch, "patches").sum())
    assert tokens_through(tiny_learner(), batch) == {"image_encoder": hidden}
    batch = text_batch(padded=True)
    hidden = int(predicted_positions(batch, "words").sum())
    assert tokens_through(tiny_learner(), batch) == {"text_encoder": hidden}
    rows, real = len(PAIRS), int(PAIRS.text_padding.sum())  # type: ignore[union-attr]
    predicted = sum(int(predicted_positions(PAIRS, t).sum()) for t in ("patches", "words"))  # type: ignore[arg-type]
    assert real < rows * LENGTH
    assert tokens_through(tiny_learner(), PAIRS) == {
        "image_encoder": rows + rows * (1 + PATCHES),  # the clean [CLS], and all that is fused
        "text_encoder": rows + real,
        "mm_encoder": rows + predicted,
    }
