"""Packing and reading change which numbers are computed, and none of those that are."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from torch import Tensor

from flava_plugin.model import attention_kernels
from flava_plugin.model import layout as layouts
from flava_plugin.model.attention import EncoderStack
from flava_plugin.model.attention_kernels import attend, check_kernel, has_varlen
from flava_plugin.model.execution import set_execution
from flava_plugin.model.layout import Layout, lay_out, reading_of

ROWS, LENGTH, WIDTH = 3, 7, 16
PADDING = torch.arange(LENGTH)[None] < torch.tensor([7, 3, 5])[:, None]
READ = torch.zeros(ROWS, LENGTH, dtype=torch.bool)
READ[0, [0, 4, 6]] = READ[1, 0] = True  # and nothing of the last row


def states(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(ROWS, LENGTH, WIDTH, generator=generator, dtype=torch.float64)


def stack(layers: int = 2) -> EncoderStack:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return EncoderStack(layers, WIDTH, heads=2).double()


def gradients(module: EncoderStack, x: Tensor, mark: Tensor, **options: Tensor) -> list[Tensor]:
    """Of a loss over the marked positions, with respect to input and parameters."""
    x = x.clone().requires_grad_()
    module.zero_grad()
    found = module(x, **options).padded()[mark]
    weights = torch.arange(found.numel(), dtype=found.dtype).view_as(found).cos()
    (found * weights).sum().backward()
    return [found.detach(), x.grad, *(p.grad.clone() for p in module.parameters())]  # type: ignore[misc]


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("read", [None, READ])
def test_packed_is_the_rectangle(layers: int, read: Tensor | None) -> None:
    module, mark = stack(layers), PADDING if read is None else read
    options = {"padding": PADDING} if read is None else {"padding": PADDING, "read": read}
    module.may_pack = False
    assert module(states(), PADDING).layout.index is None
    plain = gradients(module, states(), mark, **options)
    module.may_pack = True
    assert module(states(), PADDING).layout.index is not None
    for one, other in zip(plain, gradients(module, states(), mark, **options), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("padding", [None, PADDING])
def test_reading_some_positions_gives_what_all_would(padding: Tensor | None) -> None:
    module = stack()
    options = {} if padding is None else {"padding": padding}
    whole = gradients(module, states(), READ, **options)
    for one, other in zip(
        whole, gradients(module, states(), READ, read=READ, **options), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_the_last_layer_computes_only_what_is_read() -> None:
    module, seen = stack(), []
    module.layer[-1].feedforward.model[0].register_forward_hook(
        lambda _module, inputs, _output: seen.append(len(inputs[0]))
    )
    module(states(), PADDING, READ)
    module(states(), PADDING)
    module(states())
    assert seen == [int(READ.sum()), int(PADDING.sum()), ROWS * LENGTH]


def test_what_nobody_asked_for_is_nan_and_padding_is_zero() -> None:
    norm = torch.nn.LayerNorm(WIDTH).double()
    some = stack()(states(), PADDING, READ).normed(norm)
    assert torch.equal(some.isnan().all(-1), ~READ) and torch.equal(some.isnan().any(-1), ~READ)
    whole = stack()(states(), PADDING).normed(norm)
    assert not whole[~PADDING].any() and whole[PADDING].all()


def test_nothing_read_has_a_graph_of_zeros() -> None:
    module = stack()
    nothing = torch.zeros_like(READ)
    module(states(), PADDING, nothing).values.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in module.parameters())


def test_little_padding_is_computed_along(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lay_out(states(), PADDING).index is not None
    assert lay_out(states(), torch.ones_like(PADDING)) == Layout(ROWS, LENGTH)
    monkeypatch.setitem(layouts.PACK_ABOVE, "cpu", 0.9)
    kept = lay_out(states(), PADDING)
    assert kept.index is None and kept.mask is not None


def test_as_many_of_each_row_need_no_scattering() -> None:
    first = torch.zeros_like(READ)
    first[:, 0] = True
    assert reading_of(Layout(ROWS, LENGTH), first).queries == Layout(ROWS, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kernels_agree(dtype: torch.dtype) -> None:
    results = []
    for kernel in ("fused", "plain"):
        module = stack().float()
        set_execution(module, attention=kernel)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            results.append(module(states().float(), PADDING).values.float())
    tolerance = {"rtol": 5e-2, "atol": 5e-2} if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(*results, **tolerance)


def test_dropout_drops_the_same_share_under_both_kernels() -> None:
    layout = Layout(1, 400)
    tokens = torch.ones(400, 1, 4)
    for kernel in ("fused", "plain"):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            mixed = attend(tokens, tokens, tokens, layout, layout, dropout=0.5, kernel=kernel)
        # every weight is 1 / 400, half of them are 0, the others doubled
        assert abs(float(mixed.mean()) - 1) < 0.02 and float(mixed.std()) > 0.02


def by_hand(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    first: Tensor,
    begins: Tensor,
    most: int,
    longest: int,
) -> Tensor:
    """What torch's ``varlen_attn`` computes, row by row."""
    rows = []
    for row in range(len(first) - 1):
        own = slice(int(first[row]), int(first[row + 1]))
        others = slice(int(begins[row]), int(begins[row + 1]))
        assert own.stop - own.start <= most and others.stop - others.start <= longest
        q, k, v = (x.transpose(0, 1) for x in (query[own], key[others], value[others]))
        weights = torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, dim=-1)
        rows.append((weights @ v).transpose(0, 1))
    return torch.cat(rows)


@pytest.mark.parametrize("lengths", [(7, 3, 5), (7, 7, 6), (7, 7, 7)])
@pytest.mark.parametrize("may_pack", [True, False])
def test_variable_length_attention_sees_no_padding(
    monkeypatch: pytest.MonkeyPatch, lengths: tuple[int, ...], may_pack: bool
) -> None:
    from torch.nn import attention

    monkeypatch.setattr(attention_kernels, "has_varlen", lambda device, dtype: True)
    fake = types.ModuleType("torch.nn.attention.varlen")
    fake.varlen_attn = by_hand  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", fake)
    monkeypatch.setattr(attention, "varlen", fake, raising=False)
    padding = torch.arange(LENGTH)[None] < torch.tensor(lengths)[:, None]
    module, found = stack(), []
    module.may_pack = may_pack
    for kernel in ("varlen", "fused"):
        set_execution(module, attention=kernel)  # type: ignore[arg-type]
        read = READ & padding
        found.append((module(states(), padding).padded()[padding], module(states(), padding, read)))
    torch.testing.assert_close(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1].values, found[1][1].values)


def test_variable_length_attention_is_refused_by_name_where_there_is_none() -> None:
    cpu = torch.device("cpu")
    assert not has_varlen(cpu, torch.bfloat16)
    with pytest.raises(ValueError, match="'varlen' needs CUDA, .*cpu.*take attention: auto"):
        check_kernel("varlen", cpu, bf16=True)
    check_kernel("auto", cpu, bf16=False)


def test_padding_is_read_by_nobody() -> None:
    everywhere = torch.ones_like(PADDING)
    found = stack()(states(), PADDING, everywhere)
    assert len(found.values) == int(PADDING.sum())
    torch.testing.assert_close(found.values, stack()(states(), PADDING).values)
