"""A codebook that can leave out what nobody predicts."""

from __future__ import annotations

import torch
from tiny_flava import pair_batch, registered, tiny_learner
from torch import Tensor, nn

from flava_plugin.types import IGNORE, predicted_positions


class Selective(nn.Module):
    """Codes 1 to 16 by place; says where it was asked to look."""

    num_codes = 17

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Tensor] = []

    def forward(self, image: Tensor) -> Tensor:
        return torch.arange(1, 17).expand(len(image), -1)

    def codes_at(self, image: Tensor, wanted: Tensor) -> Tensor:
        self.asked.append(wanted)
        return self(image).masked_fill(~wanted, IGNORE)


def test_a_codebook_looks_only_where_something_is_predicted() -> None:
    codebook, batch = Selective(), pair_batch(negatives=1)
    with registered("codebooks", "selective", lambda: codebook):
        learner = tiny_learner(codebook={"type": "selective"})
    losses = learner.train()(batch)
    wanted = predicted_positions(batch, "patches")
    assert len(codebook.asked) == 1 and torch.equal(codebook.asked[0], wanted)
    assert not codebook.asked[0][0].any(), "the pair that does not match"
    again = learner.eval()(batch)
    assert len(codebook.asked) == 1, "an evaluation may look at every code"
    torch.testing.assert_close(losses["mmm_image"], again["mmm_image"])
    learner.train().heads["mmm_image"].needs_codes = True  # as a head that reads them all says
    assert learner.predict(batch, ["mmm_image"])[0].codes.min() == 1  # type: ignore[union-attr]
    assert len(codebook.asked) == 1
