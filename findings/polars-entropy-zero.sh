#!/usr/bin/env bash
# polars 2.1.0.
# Behaviour: Series.entropy and Expr.entropy are NaN as soon as one probability is 0: 0 log 0 is computed as 0 * -inf
#   and not taken as its limit 0. There is no NaN in the data and no warning.
# Seen: [1, 1, 0] to base 2 gives nan, with group_by too; [1, 1], the same distribution, gives 1 bit.
# Misled: whoever takes entropies of counts or of token probabilities: nearly every histogram has an empty bin, and the
#   NaN looks like a fault of the model.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q polars==2.1.0
cd "$work"
venv/bin/python - <<'PYTHON'
import math

import polars as pl

counts = [1.0, 1.0, 0.0]
with_zero, without = pl.Series(counts).entropy(base=2), pl.Series(counts[:2]).entropy(base=2)
frame = pl.DataFrame({"run": ["a"] * 3, "count": counts})
grouped = frame.group_by("run").agg(pl.col("count").entropy(base=2))["count"][0]
print("polars:", with_zero, "grouped:", grouped, "without the zero:", without)
assert math.isnan(with_zero) and math.isnan(grouped), "changed"
assert math.isclose(without, 1)
PYTHON
