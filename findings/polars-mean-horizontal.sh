#!/usr/bin/env bash
# polars 2.1.0.
# Behaviour: mean of a column of small integers adds them in a wider type. mean_horizontal adds across columns in the
#   type of the columns, wraps, and then divides: the result is a float outside the range of the values.
# Seen: two Int8 columns that hold 100 have the horizontal mean -28; two UInt8 columns that hold 200, 72; two Float16
#   columns that hold 60,000, inf. Series([100, 100], Int8).mean() is 100.
# Misled: whoever averages scores, ratings or quantized values of several raters or runs that lie in columns.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q polars==2.1.0
cd "$work"
venv/bin/python - <<'PYTHON'
import polars as pl

for dtype, value, expected in ((pl.Int8, 100, -28), (pl.UInt8, 200, 72), (pl.Float16, 60_000, float("inf"))):
    column = pl.Series([value], dtype=dtype)
    across = pl.DataFrame({"first": column, "second": column}).select(pl.mean_horizontal("first", "second")).item()
    down = pl.Series([value, value], dtype=dtype).mean()
    print(dtype, "across columns:", across, " down a column:", down)
    assert across == expected, "changed"
    assert abs(down - value) <= 16
PYTHON
