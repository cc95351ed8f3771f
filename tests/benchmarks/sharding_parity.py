"""How far every sharding strategy is from one process: the figures behind test_strategies.py.

python tests/benchmarks/sharding_parity.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "distributed"))
import cases  # noqa: E402
import ranks  # noqa: E402
import strategy_cases  # noqa: E402
from strategy_cases import SAVED, STEPS, STRATEGIES, Tensors, missing, part  # noqa: E402


def farthest(found: Tensors, expected: Tensors) -> float:
    """The largest difference of two sets of tensors of the same names."""
    assert found.keys() == expected.keys()
    return max(float((found[n].double() - t.double()).abs().max()) for n, t in expected.items())


def main() -> None:
    alone = strategy_cases.everything(cases.ALONE, "none", strategy_cases.saved_alone())
    print(f"| strategy, ranks | {STEPS} losses | norms | weights, AdamW | resumed | from none |")
    print("|---|---|---|---|---|---|")
    for size in (2, 4):
        with tempfile.TemporaryDirectory() as folder:
            every = ranks.run("strategy_cases.every_strategy", size, Path(folder), timeout=600)[0]
        for name in STRATEGIES:
            if missing(name):
                continue
            found = part(every, f"{name}/")
            last = f"run/state {STEPS}/"
            own, other = part(found, "run/loss/"), part(alone, "run/loss/")
            norms = {name for name in own if name.endswith("/norm")}
            again = part(found, "from itself/loss/")
            figures = (
                *(
                    farthest(
                        {n: t for n, t in own.items() if (n in norms) is chosen},
                        {n: t for n, t in other.items() if (n in norms) is chosen},
                    )
                    for chosen in (False, True)
                ),
                farthest(part(found, last), part(alone, last)),
                farthest(again, {n: own[n] for n in again}),
                farthest(part(found, "from none/loss/"), part(alone, "from none/loss/")),
            )
            assert min(int(n.partition("/")[0]) for n in again) == SAVED
            print(f"| {name}, {size} | " + " | ".join(f"{f:.1e}" for f in figures) + " |")


if __name__ == "__main__":
    main()
