"""Settings of execution change time and memory, and no result."""

from __future__ import annotations

import pytest
import torch
from tiny_flava import mean_losses, pair_batch, text_batch, tiny_learner
from torch import Tensor

from flava_plugin.data.collate import Padding, split
from flava_plugin.model import execution
from flava_plugin.model.execution import compile_layers, compiled_graphs, set_execution
from flava_plugin.model.learner import Learner
from flava_plugin.types import IGNORE, Batch


def gradients(learner: Learner, batch: Batch) -> dict[str, Tensor]:
    learner.zero_grad()
    sum(mean_losses(learner, batch).values()).backward()  # type: ignore[union-attr]
    return {n: p.grad.clone() for n, p in learner.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("every", "recomputed"), [(False, 0), (True, 5), (2, 2)])
def test_checkpointing_recomputes_the_layers_it_should(every: bool | int, recomputed: int) -> None:
    batch, learner = pair_batch(padded=True), tiny_learner()
    expected = gradients(learner, batch)
    set_execution(learner, activation_checkpointing=every)
    runs = 0

    def count(*_: object) -> None:
        nonlocal runs
        runs += 1

    for name, part in learner.named_modules():
        if name.endswith("attention_layernorm"):
            part.register_forward_hook(count)
    found = gradients(learner, batch)
    assert runs == 5 + recomputed, "two, two and one layer, and those computed anew"
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)


def test_compiled_layers_change_nothing_and_are_counted() -> None:
    learner = tiny_learner()
    names = [*learner.state_dict()]
    batches = [pair_batch(padded=True), text_batch(padded=True)]
    expected = [gradients(learner, batch) for batch in batches]
    before = compiled_graphs()
    compile_layers(learner, backend="aot_eager")
    assert [*learner.state_dict()] == names
    for batch, gradient in zip(batches, expected, strict=True):
        found = gradients(learner, batch)
        for name, value in gradient.items():
            torch.testing.assert_close(found[name], value)
    compiled = compiled_graphs()
    assert compiled > before
    for batch in batches:
        gradients(learner, batch)
    assert compiled_graphs() == compiled, "shapes seen before are not compiled anew"


def test_attending_to_padding_there_is_always_as_much_of_it() -> None:
    learner, whole = tiny_learner(padding="released"), pair_batch(rows=6, padded=True)
    multiple = execution.text_multiple(compiled=False, padding_is_read=True)
    padding = Padding(0, multiple, {"pair": 15})
    losses = []
    for rows in (6, 2, 1):
        parts = split(whole, rows, padding)
        assert all(part.text.shape[1] == 15 for part in parts)  # type: ignore[union-attr]
        sums = [learner(part)["itm"] for part in parts]
        losses.append(torch.stack(sums).sum())
    torch.testing.assert_close(losses[1], losses[0])
    torch.testing.assert_close(losses[2], losses[0])
    assert execution.text_multiple(compiled=False, padding_is_read=False) == 1


def test_texts_are_padded_to_few_lengths_for_the_compiler() -> None:
    batch = text_batch(rows=4, padded=True)
    needed = int(batch.text_padding.sum(1).max())  # type: ignore[union-attr]
    (trimmed,) = split(batch, 4)
    padding = Padding(0, 16, {"text": 15})
    (padded,) = split(batch, 4, padding)
    assert trimmed.text.shape == (4, needed) and padded.text.shape == (4, 15)  # type: ignore[union-attr]
    assert padding.length(5, "pair") == 16 and padding.length(17, "text") == 17
    assert (padded.text[:, needed:] == 0).all() and (padded.text_masked[:, needed:] == 0).all()  # type: ignore[index]
    assert not padded.text_padding[:, needed:].any()  # type: ignore[index]
    assert (padded.word_labels[:, needed:] == IGNORE).all()  # type: ignore[index]
    learner = tiny_learner()
    for name, loss in mean_losses(learner, trimmed).items():
        torch.testing.assert_close(mean_losses(learner, padded)[name], loss)
