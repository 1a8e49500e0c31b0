"""Parts of a leaf, read square by square, against plain indexing."""

import pathlib

import ml_dtypes
import numpy as np
import pytest

from mdlm_jax.weights.slots import SQUARE, Fill, Slot, read_part, transposed
from mdlm_jax.weights.tensors import Tensor

OUT, IN = 2 * SQUARE + 24, SQUARE + 7
PARTS = {
    "whole": (slice(None), slice(None), slice(None)),
    "rows": (slice(3, IN - 1), slice(None), slice(None)),
    "heads": (slice(None), slice(5, 60), slice(None)),
    "within heads": (slice(2, None), slice(None), slice(1, 5)),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("stored", [np.float32, ml_dtypes.bfloat16])
def test_transposed(part, stored):
    values = np.random.default_rng(0).standard_normal((OUT, IN)).astype(stored)
    slot = Slot("q", (OUT, IN), (Fill(("query", "kernel"), None, transposed),))
    tensors = {"q": Tensor(pathlib.Path("model.safetensors"), (OUT, IN), "F32", lambda: values)}
    found = read_part([(slot, slot.fills[0])], tensors, (IN, OUT // 8, 8), PARTS[part], np.float32)
    expected = values.T.reshape(IN, OUT // 8, 8)[PARTS[part]].astype(np.float32)
    np.testing.assert_array_equal(found, expected)
