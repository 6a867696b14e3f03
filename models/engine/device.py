"""How many threads a model may use."""

import torch


def use_threads(threads: int) -> None:
    """Let torch use `threads` CPU threads: Ray allows an actor no more than it reserves."""
    if not torch.cuda.is_available():
        torch.set_num_threads(threads)
