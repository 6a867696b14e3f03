"""Results that the device computes while the host goes on."""

from collections.abc import Sequence

import numpy as np
import torch


class Pending:
    """Results of several inputs, a tensor [n, …] each, on their way to the host."""

    def __init__(self, results: Sequence[torch.Tensor]) -> None:
        """Queue the copy behind what computes the results; waits for nothing."""
        self._lengths = [len(result) for result in results]
        joined = torch.cat(list(results)) if results else torch.empty(0)
        self._host = joined.to("cpu", non_blocking=True)  # from a GPU into pinned memory
        self._arrived = torch.cuda.Event(blocking=True) if joined.is_cuda else None
        if self._arrived is not None:
            self._arrived.record(torch.cuda.current_stream(joined.device))

    def wait(self) -> list[np.ndarray]:
        """Return the result of each input, float32[n, …], once they are there."""
        if self._arrived is not None:
            self._arrived.synchronize()
        if not self._lengths:
            return []
        return np.split(self._host.numpy(), np.cumsum(self._lengths)[:-1])
