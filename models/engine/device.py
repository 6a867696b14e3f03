"""How much of a device a model may use (threads of a CPU, memory of a GPU), and the way to it."""

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


def to_device(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """Copy a tensor of the host to a device; to a GPU from pinned memory, without waiting."""
    if torch.device(device).type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
