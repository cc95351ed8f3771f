"""``flava weights dalle``: OpenAI's published encoder as the file of codebook ``dalle_dvae``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

MOST_DIFFERENCE = 1e-4
"""Largest difference of logits that counts as rounding; the published encoder's are of size 10."""
CHECKED_SIDE = 112
"""Pixels of a side of the picture that the check runs on (BEiT, FLAVA)."""


def add_command(subparsers: Any) -> None:
    """Add ``dalle`` to the group ``flava weights``.

    Args:
        subparsers: What ``ArgumentParser.add_subparsers`` of that group returned.
    """
    parser = subparsers.add_parser(
        "dalle",
        help="convert DALL-E's encoder to a codebook",
        description="Convert DALL-E's encoder for model.codebook: {type: dalle_dvae, path: DST}. "
        "The published file is a pickle; it is read as a record, without running it.",
    )
    parser.add_argument(
        "source",
        type=Path,
        metavar="SRC",
        help="OpenAI's encoder.pkl, or a state (.pt, .safetensors) of torchmultimodal's "
        "DalleVAEEncoder or Hugging Face's FlavaImageCodebook",
    )
    parser.add_argument("target", type=Path, metavar="DST", help="file to write (.safetensors)")
    parser.add_argument("--force", action="store_true", help="replace an existing DST")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Convert a file and check the result.

    Args:
        arguments: ``source``, ``target`` and ``force``.

    Returns:
        0 done, 1 the result does not compute the same or cannot be written, 2 refused.
    """
    from flava_plugin.cli.weights_target import DifferentError

    try:
        convert(arguments.source, arguments.target, force=arguments.force)
    except (DifferentError, OSError) as error:
        print(f"flava weights dalle: {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"flava weights dalle: {error}", file=sys.stderr)
        return 2
    return 0


def convert(source: Path, target: Path, *, force: bool = False) -> None:
    """Convert a file; the target appears only once the check has passed.

    Args:
        source: File to read.
        target: File to write.
        force: Whether to replace it.

    Raises:
        ValueError: The source or the target is refused; nothing was written.
        DifferentError: The result differs, or the disk fails; nothing is left.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from flava_plugin.cli.weights_target import DifferentError
    from flava_plugin.data.dalle_file import check_shapes, read_dalle
    from flava_plugin.data.dalle_pickle import read_published
    from flava_plugin.durable import TEMPORARY, sync

    check_places(source, target, force=force)
    if source.suffix == ".safetensors":
        state = read_dalle(source, renamed=True)
    else:
        state = read_published(source)
    hidden, codes, blocks = check_shapes({n: tuple(t.shape) for n, t in state.items()}, str(source))
    # The format holds numbers in order of their dimensions.
    for name in state:
        state[name] = state[name].contiguous()
    temporary = target.with_name(f"{TEMPORARY}{target.name}-{os.getpid()}")
    try:
        save_file(state, temporary, {"format": "pt", "flava_codebook": "dalle_dvae"})
        result = check(temporary, state, hidden, codes, blocks)
        sync(temporary)
        temporary.replace(target)
    except (OSError, SafetensorError) as error:
        raise DifferentError(f"{target} cannot be written: {error}") from error
    except DifferentError as error:
        raise DifferentError(f"{target}: {error}; no file is left") from error
    finally:
        temporary.unlink(missing_ok=True)
    sync(target.resolve().parent)
    parameters = sum(value.numel() for value in state.values())
    print(f"{target}: {parameters:,} parameters, {codes} codes; {result}")


def check_places(source: Path, target: Path, *, force: bool) -> None:
    """Refuse a command line before anything is read.

    Args:
        source: File to read.
        target: File to write.
        force: Whether to replace it.

    Raises:
        ValueError: The source is no file, or the target is no place for the result.
    """
    from flava_plugin.cli.weights_target import check_apart, check_free

    if source.is_dir():
        raise ValueError(f"{source}: is a folder; name the file of weights in it")
    if not source.is_file():
        raise ValueError(
            f"{source}: no such file; name OpenAI's encoder.pkl, or a state of the encoder"
        )
    if target.suffix != ".safetensors":
        raise ValueError(
            f"{target}: what is written is safetensors; call it {target.stem}.safetensors"
        )
    check_apart(source, target)
    check_free(target, force=force, folder=False)


def check(path: Path, state: dict[str, Tensor], hidden: int, codes: int, blocks: int) -> str:
    """Compare the codebook of a written file with torchmultimodal's encoder of the same weights.

    Args:
        path: The file.
        state: What was written.
        hidden: Width of the first group.
        codes: Number of codes.
        blocks: Blocks in a group.

    Returns:
        What was found, in words.

    Raises:
        DifferentError: Logits are not finite, or differ by more than rounding.
    """
    import torch
    from torchmultimodal.models.flava.model import DalleEncoder

    from flava_plugin import registry
    from flava_plugin.cli.weights_target import DifferentError

    generator = torch.Generator().manual_seed(0)
    side = CHECKED_SIDE
    image = 0.8 * torch.rand(1, 3, side, side, generator=generator) + 0.1
    with torch.device("meta"):  # its own first weights are drawn nowhere
        upstream = DalleEncoder(n_hid=hidden, vocab_size=codes, n_blk_per_group=blocks)
    upstream.load_state_dict(state, assign=True)
    codebook = registry.codebooks.build("dalle_dvae", path=path)
    with torch.no_grad():
        theirs, ours = upstream(image), codebook.logits(image)
        equal = (codebook(image) == theirs.argmax(1).flatten(1)).double().mean().item()
    if not theirs.isfinite().all() or not ours.isfinite().all():
        raise DifferentError("logits are not finite, so the source is damaged")
    difference, size = (ours - theirs).abs().max().item(), theirs.abs().max().item()
    allowed = MOST_DIFFERENCE * max(1.0, size)
    if difference > allowed:
        raise DifferentError(
            f"logits differ from torchmultimodal's by {difference:.1e}, more than "
            f"{allowed:.1e}; please report it with the versions of torch and of the source"
        )
    return (
        f"on a fixed picture {equal:.1%} of codes as torchmultimodal's, logits within "
        f"{difference:.1e} of up to {size:.3g}"
    )
