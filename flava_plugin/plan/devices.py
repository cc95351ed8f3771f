"""What a device can do at most, from its datasheet, and what a plan takes of it."""

from __future__ import annotations

from dataclasses import dataclass

MFU = 0.4
"""Share of the dense peak assumed for a GPU; ``flava profile`` on the machine tells better."""


@dataclass(frozen=True)
class Device:
    """A device and its links.

    Attributes:
        name: As on its datasheet.
        matmul: Dense peak in FLOP/s by precision, without sparsity; empty where it is measured.
        memory: Bytes; 0 for whatever the machine has.
        bandwidth: Bytes/s of its memory; 0 where it is measured.
        link: Bytes/s and direction to the GPUs of the same node.
        network: Bytes/s and direction to other nodes, for each GPU.
        per_node: GPUs of a node.
        heap: Memory that a step takes over the bytes alive at once: freed blocks that are kept.
        context: Bytes that libraries take for themselves.
        source: Where the numbers come from.
    """

    name: str
    matmul: dict[str, float]
    memory: float
    bandwidth: float
    link: float
    network: float
    per_node: int
    heap: float
    context: float
    source: str


# fp32: torch multiplies fp32 matrices without tensor cores unless told otherwise; its convolutions
# run in TF32 unless told otherwise (torch.backends.cudnn.allow_tf32).
_HOPPER = {"bf16": 989e12, "tf32": 494e12, "fp32": 67e12}
_CACHED = (1.1, 1.0e9)  # torch's caching allocator, the CUDA context and cuBLAS; assumed
_GLIBC = (1.22, 8 * 2.0**20)  # fitted to tests/benchmarks/plan_check.py, all its sizes
DEVICES = {
    "h100": Device(
        "NVIDIA H100 SXM",
        _HOPPER,
        80e9,
        3.35e12,
        450e9,
        50e9,
        8,
        *_CACHED,
        "NVIDIA H100 datasheet: with sparsity bf16 1,979 and TF32 989 TFLOPS, half of each dense; "
        "fp32 67; 80 GB; 3.35 TB/s; NVLink 900 GB/s both ways; DGX H100: 400 Gb/s of InfiniBand "
        "per GPU",
    ),
    "h200": Device(
        "NVIDIA H200 SXM",
        _HOPPER,
        141e9,
        4.8e12,
        450e9,
        50e9,
        8,
        *_CACHED,
        "NVIDIA H200 datasheet: with sparsity bf16 1,979 and TF32 989 TFLOPS, half of each dense; "
        "fp32 67; 141 GB; 4.8 TB/s; NVLink 900 GB/s both ways; DGX H200: 400 Gb/s of InfiniBand "
        "per GPU",
    ),
    "a100": Device(
        "NVIDIA A100 SXM 80 GB",
        {"bf16": 312e12, "tf32": 156e12, "fp32": 19.5e12},
        80e9,
        2.039e12,
        300e9,
        25e9,
        8,
        *_CACHED,
        "NVIDIA A100 datasheet: dense bf16 312 and TF32 156 TFLOPS, fp32 19.5; 80 GB; 2,039 GB/s; "
        "NVLink 600 GB/s both ways; DGX A100: 200 Gb/s of InfiniBand per GPU",
    ),
    "cpu": Device(
        "this machine's CPU",
        {},
        0.0,
        0.0,
        5e9,
        1e9,
        1,
        *_GLIBC,
        "measured here in a few seconds; links: gloo over one machine's memory and 10 Gb/s "
        "Ethernet, assumed",
    ),
}
