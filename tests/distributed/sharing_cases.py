"""What several ranks do together in an evaluation, as functions of a World."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from types import SimpleNamespace

import torch
from torch import Tensor

from flava_plugin.data.damage import DamagedSampleError
from flava_plugin.evaluate.sharing import ALONE, Ranks, first, share
from flava_plugin.train.world import World


def shared(world: World) -> dict[str, Tensor]:
    """Groups of every number, nested work, work of the first rank alone, and failures."""
    flava = SimpleNamespace(ranks=Ranks(world.rank, world.size))
    computed = 0

    def work(number: int) -> Tensor:
        nonlocal computed
        computed += 1
        assert flava.ranks is ALONE
        (inner,) = share(flava, [number], lambda each: each * each)
        return torch.tensor([inner])

    for count in range(8):
        assert [int(each) for each in share(flava, range(count), work)] == [
            number * number for number in range(count)
        ]
        assert flava.ranks.size == world.size
    assert first(flava, lambda: torch.tensor(world.rank)) == 0

    def refuse(number: int) -> int:
        if number == 4:
            raise DamagedSampleError("broken picture", "four.png")
        if number == 5:
            raise OSError(errno.EMFILE, "too many")
        return number

    def groups(kept: list[int]) -> Iterator[int]:
        for number in range(9):
            kept.append(number)
            yield number

    seen: list[int] = []
    try:
        list(share(flava, groups(seen), refuse))
    except DamagedSampleError as error:
        mine = world.rank == 4 % world.size
        assert str(error).startswith("" if mine else f"rank {4 % world.size}: ")
        assert str(error).endswith("broken picture: four.png")
    assert seen == list(range((4 // world.size + 1) * world.size)), "read lazily"
    try:
        list(share(flava, [5], refuse))
    except OSError as error:
        assert error.errno == errno.EMFILE
    else:
        raise AssertionError("nothing was raised")
    assert list(share(flava, [1], refuse)) == [1], "the ranks are together again"
    return {"computed": torch.tensor(computed)}
