"""Our writer of safetensors files against the library's reader."""

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

from mdlm_jax.weights.safetensors_file import open_safetensors
from tests.weights.models import write_file


def numbers():
    return np.arange(24, dtype=np.float32).reshape(4, 6)


LAYOUTS = {
    "transposed": lambda: numbers().T,
    "strided": lambda: numbers()[:, ::2],
    "reversed": lambda: numbers()[::-1],
    "fortran": lambda: np.asfortranarray(numbers()),
    "moved": lambda: np.moveaxis(numbers().reshape(2, 2, 6), 0, 2),
    "repeated": lambda: np.broadcast_to(numbers()[:1], (3, 6)),
    "bfloat16": lambda: numbers().astype(ml_dtypes.bfloat16).T,
    "float16": lambda: numbers().astype(np.float16).T,
    "scalar": lambda: np.float32(3.5).reshape(()),
    "empty": lambda: numbers()[:0],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_in_memory_is_written_in_order(tmp_path, layout):
    """`save_file` of safetensors 0.8.0 writes the bytes of the first six as they lie, without an error."""
    values = LAYOUTS[layout]()
    write_file(tmp_path / "a.safetensors", {"before": numbers(), "x": values, "y": numbers()})
    library, ours = load_file(tmp_path / "a.safetensors"), open_safetensors(tmp_path / "a.safetensors")[0]
    for read in (library["x"], ours["x"].read()):
        assert read.dtype == values.dtype and read.shape == values.shape
        np.testing.assert_array_equal(read, values)
    np.testing.assert_array_equal(library["y"], numbers())
