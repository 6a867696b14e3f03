"""How many threads a replica's model may use."""


def use_threads(threads: int) -> None:
    """Let torch use `threads` CPU threads; Ray allows an actor as many as the CPUs it reserves."""
    import torch

    if not torch.cuda.is_available():
        torch.set_num_threads(threads)
