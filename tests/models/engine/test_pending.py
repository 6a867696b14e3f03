"""Results on their way from the device, each input's its own."""

import numpy as np
import torch

from models.engine.pending import Pending


def test_each_input_gets_its_own() -> None:
    results = [torch.arange(2.0), torch.arange(3.0), torch.arange(0.0)]
    for mine, result in zip(Pending(results).wait(), results, strict=True):
        np.testing.assert_array_equal(mine, result.numpy())
    (rows,) = Pending([torch.ones(2, 4)]).wait()
    assert rows.shape == (2, 4)


def test_nothing_is_nothing() -> None:
    assert Pending([]).wait() == []
