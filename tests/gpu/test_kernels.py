"""What only a GPU has: attention over packed rows, compiled layers, DALL-E's codes on it."""

from __future__ import annotations

import pytest
import torch
from tiny_flava import mean_losses, pair_batch, tiny_learner
from torch import Tensor

from flava_plugin.components.dalle import DalleCodes
from flava_plugin.model.attention import EncoderStack
from flava_plugin.model.attention_kernels import has_varlen
from flava_plugin.model.execution import compile_layers, compiled_graphs, set_execution
from flava_plugin.types import IGNORE

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]

CUDA = torch.device("cuda")
LENGTHS = torch.tensor([40, 7, 23, 40])
PADDING = torch.arange(40)[None] < LENGTHS[:, None]
READ = PADDING & (torch.arange(40)[None] % 3 == 0)


@pytest.mark.parametrize("read", [None, READ])
def test_attention_over_packed_rows_is_that_over_padded_ones(read: Tensor | None) -> None:
    if not has_varlen(CUDA, torch.bfloat16):
        pytest.skip(f"torch {torch.__version__} has no variable-length attention; 2.10 has")
    states = torch.randn(4, 40, 128, generator=torch.Generator().manual_seed(0)).to(CUDA)
    stack = EncoderStack(2, 128, heads=2).to(CUDA)
    found = []
    for kernel in ("varlen", "fused"):
        set_execution(stack, attention=kernel)
        stack.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            tokens = stack(states, PADDING.to(CUDA), None if read is None else read.to(CUDA))
        tokens.values.float().square().mean().backward()
        found.append([tokens.values, *(p.grad for p in stack.parameters())])
    for one, other in zip(*found, strict=True):
        assert one is not None and other is not None
        scale = float(other.abs().max())
        assert float((one - other).abs().max()) <= 0.05 * scale + 1e-4


def test_compiled_layers_compute_the_same_and_are_compiled_once() -> None:
    learner, batch = tiny_learner().to(CUDA), pair_batch(padded=True).to(CUDA)
    batch = learner.with_codes(batch)
    expected = mean_losses(learner, batch)
    compile_layers(learner)
    torch.testing.assert_close(mean_losses(learner, batch), expected, rtol=1e-3, atol=1e-4)
    graphs = compiled_graphs()
    mean_losses(learner, batch)
    assert compiled_graphs() == graphs > 0


def test_dalle_codes_on_a_gpu_are_those_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchmultimodal.models.flava.model import DalleEncoder

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = DalleEncoder().state_dict()
    generator = torch.Generator().manual_seed(0)
    image = 0.1 + 0.8 * torch.rand(2, 3, 112, 112, generator=generator)
    wanted = torch.rand(2, 196, generator=generator) < 0.4
    own = DalleCodes({k: v.clone() for k, v in state.items()}).codes_at(image, wanted)
    codes = DalleCodes(state).to(CUDA).codes_at(image.to(CUDA), wanted.to(CUDA)).cpu()
    assert ((codes != IGNORE) == wanted).all()
    # Random weights leave logits close to each other, so that rounding decides some codes.
    assert float((codes == own).float().mean()) > 0.99
