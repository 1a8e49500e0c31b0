"""Our writer of safetensors files against the library's reader."""

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

from mdlm_jax.weights.safetensors_file import open_safetensors
from tests.weights.models import write_file

NUMBERS = np.array([range(6), range(6, 12), range(12, 18), range(18, 24)], np.float32)


@pytest.mark.parametrize(
    "make",
    [
        lambda: NUMBERS.T,
        lambda: NUMBERS[:, ::2],
        lambda: NUMBERS[::-1],
        lambda: np.asfortranarray(NUMBERS),
        lambda: np.moveaxis(NUMBERS.reshape(2, 2, 6), 0, 2),
        lambda: np.broadcast_to(NUMBERS[:1], (3, 6)),
        lambda: NUMBERS.astype(ml_dtypes.bfloat16).T,
        lambda: NUMBERS.astype(np.float16).T,
        lambda: np.float32(3.5).reshape(()),
        lambda: NUMBERS[:0],
    ],
    ids=["transposed", "strided", "reversed", "fortran", "moved", "repeated", "bfloat16", "float16", "scalar", "empty"],
)
def test_any_layout_in_memory_is_written_in_order(tmp_path, make):
    """`save_file` of safetensors 0.8.0 writes the bytes of the first six as they lie, without an error."""
    values = make()
    write_file(tmp_path / "a.safetensors", {"before": NUMBERS, "x": values, "y": NUMBERS})
    library, ours = load_file(tmp_path / "a.safetensors"), open_safetensors(tmp_path / "a.safetensors")[0]
    for read in (library["x"], ours["x"].read()):
        assert read.dtype == values.dtype and read.shape == values.shape
        np.testing.assert_array_equal(read, values)
    np.testing.assert_array_equal(library["y"], NUMBERS)
