import pytest
import torch
from evaluate_doubles import Listed

from flava_plugin.evaluate.attention_head import States, fit_head
from flava_plugin.evaluate.probe import Questions
from flava_plugin.evaluate.sharing import ALONE
from flava_plugin.types import Sample


def asked(seed: int, rows: int = 400) -> tuple[States, torch.Tensor]:
    """Patch i shows colour c_i; the question's token names the patch it asks about."""
    generator = torch.Generator().manual_seed(seed)
    colors = torch.randint(3, (rows, 4), generator=generator)
    place = torch.randint(4, (rows,), generator=generator)
    states = torch.zeros(rows, 2 + 4 + 2, 16)
    states[:, 2:6, :3] = torch.nn.functional.one_hot(colors, 3).float()
    states[:, 2:6, 4:8] = torch.eye(4)
    states[:, 6, 8:12] = torch.nn.functional.one_hot(place, 4).float()
    states += 0.05 * torch.randn(states.shape, generator=generator)
    states[:, 7] = 50.0  # padding, which must not matter
    present = torch.ones(rows, 8, dtype=torch.bool)
    present[:, 7] = False
    return States(states, present, 6), colors[torch.arange(rows), place]


def test_head_learns_to_look_where_the_question_points() -> None:
    head = fit_head(*asked(0, 2000), 3, epochs=12)
    states, labels = asked(1)
    assert (head(states).argmax(1) == labels).float().mean() > 0.9


def test_head_is_the_same_for_the_same_states_and_ignores_padding() -> None:
    states, labels = asked(0)
    torch.manual_seed(1)
    first = fit_head(states, labels, 3)
    torch.manual_seed(2)
    states.states[:, 7] = -50.0
    second = fit_head(states, labels, 3)
    assert torch.equal(first.output.weight, second.output.weight)


def test_head_can_be_fitted_in_inference_mode() -> None:
    with torch.inference_mode():
        states, labels = asked(0, 100)
        head = fit_head(states, labels, 3)
    assert not head.output.weight.is_inference()


def test_a_kind_that_is_never_asked_is_refused() -> None:
    dataset = Listed([Sample(text="?", extra={"kind": "shape", "answer": "ring"})])
    task = Questions(dataset, dataset, ["color"], ("kind", "answer"))
    with pytest.raises(ValueError, match="none of kind 'color'"):
        task(type("Double", (), {"batch_size": 4, "ranks": ALONE})())
