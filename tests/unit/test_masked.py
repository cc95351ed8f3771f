import pytest
import torch
from evaluate_doubles import Filling, Listed

from flava_plugin.evaluate.masked import Fill, MaskedTokens, majority, only
from flava_plugin.model.backbone import LackingError
from flava_plugin.types import Batch, Sample


def test_accuracy_and_majority_are_of_the_same_labels() -> None:
    labels = torch.tensor([2, 2, 2, 5, 1, 0, 4, 3, 3, 2])
    guesses = torch.tensor([2, 2, 0, 5, 1, 0, 4, 3, 1, 1])
    task = MaskedTokens(Listed([Sample(text="a")]), None, [Fill("words", "mmm_text", "pair")])
    figures = task(Filling(labels, guesses, 6))  # type: ignore[arg-type]
    assert figures["words"] == pytest.approx(7 / 10)
    assert figures["words_majority"] == pytest.approx(4 / 10)


def test_a_model_trained_on_none_of_the_objectives_is_refused() -> None:
    task = MaskedTokens(Listed([Sample(text="a")]), None, [Fill("mlm", "mlm", "text")])
    with pytest.raises(LackingError, match=r"none of mlm; it has itm, mmm_text, mmm_image"):
        task(Filling(torch.tensor([0]), torch.tensor([0]), 2))  # type: ignore[arg-type]


def test_majority_is_the_share_of_the_most_frequent_label() -> None:
    assert majority(torch.tensor([4, 4, 0, 9])) == 0.5


def test_the_other_modality_is_hidden_whole() -> None:
    rows = torch.zeros(2, 3)
    batch = Batch(
        "pair",
        image=rows,
        codebook_image=rows,
        patch_mask=rows.bool(),
        text=rows.long(),
        text_masked=rows.long(),
        text_padding=rows.bool(),
        word_labels=rows.long(),
        matched=torch.ones(2).bool(),
        positives=torch.ones(2).bool(),
    )
    text, image = only(batch, "text"), only(batch, "image")
    assert (text.modality, image.modality) == ("text", "image")
    assert text.image is text.patch_mask is text.codebook_image is text.positives is None
    assert image.text is image.text_masked is image.word_labels is image.text_padding is None
    assert text.text_masked is not None
    assert image.patch_mask is not None
    assert only(batch, "pair") is batch
