"""One training step of ours against the two public implementations: time, memory, gradients.

    python -m tests.benchmarks.bench --quick
    python -m tests.benchmarks.bench --memory --cached --out bench.json

Every implementation computes on one set of ``nn.Parameter`` objects in one process, in turns. A row
is timed only after its gate: the same losses and gradients as the peer whose semantics it has.
"""
