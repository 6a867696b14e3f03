"""How much of a device a model may use: threads of a CPU, memory of a GPU."""

import torch


def use_threads(threads: int) -> None:
    """Let torch use `threads` CPU threads: Ray allows an actor no more than it reserves."""
    if not torch.cuda.is_available():
        torch.set_num_threads(threads)


def limit_gpu_memory(fraction: float | None) -> None:
    """Let the tensors of this process take a share of its GPU's memory; None: all of it.

    To be called before a model is loaded.
    """
    if fraction is not None and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(fraction)
