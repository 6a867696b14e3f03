"""Accelerators by name: memory, speed, price; and which of them this machine has.

The table is of November 2026. Memory is what a process can use, as the driver reports it. TFLOP/s
and GB/s are dense peaks of the makers' data sheets. Prices are only a start: rough on-demand list
prices of one card with its share of a machine, USD an hour; give your own.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass

import psutil

from cluster.settings import GIB

SMI_TIMEOUT_S = 10
CPU = "CPU"
# Of one core, fp32: two 256-bit multiply-adds a cycle at about 3 GHz.
CORE_TFLOPS = 0.096


@dataclass(frozen=True)
class Accelerator:
    """One kind of card. `fp32_tflops` without tensor cores, as torch computes fp32 by default."""

    name: str
    memory_bytes: int
    bf16_tflops: float
    fp32_tflops: float
    bandwidth_gb_s: float
    price_per_hour: float
    pattern: str  # of the driver's name for it
    cores: int = 0  # of a CPU

    @property
    def is_cpu(self) -> bool:
        return self.name == CPU

    def tflops(self, precision: str) -> float:
        """The peak that a precision's matrix products can reach; int8 and nf4 compute in bf16."""
        return self.fp32_tflops if precision == "fp32" else self.bf16_tflops


def _card(
    name: str, gib: float, bf16: float, fp32: float, bandwidth: float, price: float, pattern: str
) -> Accelerator:
    return Accelerator(name, int(gib * GIB), bf16, fp32, bandwidth, price, pattern)


# The T4 has no bf16 in its tensor cores: torch computes it at the speed of fp32.
CARDS = (
    _card("T4", 14.5, 8.1, 8.1, 320, 0.40, r"\bT4\b"),
    _card("L4", 22.0, 121, 30.3, 300, 0.80, r"\bL4\b"),
    _card("A10G", 22.0, 70, 31.2, 600, 1.01, r"\bA10G?\b"),
    _card("RTX4090", 23.5, 165, 82.6, 1008, 0.60, r"RTX 4090\b"),
    _card("L40S", 44.4, 362, 91.6, 864, 1.86, r"\bL40S\b"),
    _card("A100-40GB", 39.4, 312, 19.5, 1555, 2.90, r"A100.*40GB"),
    _card("A100-80GB", 79.1, 312, 19.5, 2039, 3.70, r"A100.*80GB"),
    _card("H100", 79.1, 989, 67, 3350, 4.00, r"\bH100\b"),
    _card("H200", 139.8, 989, 67, 4800, 4.80, r"\bH200\b"),
    _card("B200", 178.0, 2250, 80, 8000, 6.50, r"\bB200\b"),
)


def accelerators() -> dict[str, Accelerator]:
    """Every kind by name, this machine's CPU among them (one "card" with all of its cores)."""
    known = {card.name: card for card in CARDS}
    return {**known, CPU: this_cpu()}


def this_cpu() -> Accelerator:
    """This machine without a GPU; it costs nothing more than it does already."""
    cores = len(psutil.Process().cpu_affinity() or [1])
    peak = cores * CORE_TFLOPS
    return Accelerator(CPU, psutil.virtual_memory().total, peak, peak, 20.0, 0.0, "", cores)


def kind_of(device: str) -> str:
    """The kind of a device by the driver's name for it ("NVIDIA L4"); that name if unknown."""
    names = (card.name for card in CARDS if re.search(card.pattern, device))
    return next(names, device)


def detect_gpus() -> dict[str, int]:
    """GPUs of this machine: kind → count; empty where there are none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    try:
        listed = subprocess.run(
            [program, "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=SMI_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return {}  # a driver without a card
    names = [kind_of(line.strip()) for line in listed.stdout.splitlines() if line.strip()]
    return {name: names.count(name) for name in sorted(set(names))}


def cpu_cores() -> int:
    """CPU cores of this machine that we may use."""
    return len(psutil.Process().cpu_affinity() or [1])
