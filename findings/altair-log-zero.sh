#!/usr/bin/env bash
# altair 6.3.0 rendered by vl-convert-python 1.9.0.post1.
# Behaviour: one value of 0 or below on a log scale puts every point at one height, without a warning.
# Seen: 1, 10, 100, 1000 are drawn at 300, 200, 100, 0 pixels; 0, 10, 100, 1000 all at 0.
# Misled: loss curves on a log axis where one run reports 0, or a loss that may be negative: the whole panel is a line.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q altair==6.3.0 vl-convert-python==1.9.0.post1
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import re

import altair as alt
import vl_convert


def heights(values):
    points = alt.Data(values=[{"x": place, "y": value} for place, value in enumerate(values)])
    chart = alt.Chart(points).mark_point().encode(x="x:Q", y=alt.Y("y:Q", scale=alt.Scale(type="log")))
    svg = vl_convert.vegalite_to_svg(chart.to_json())
    marks = re.findall(r'<path aria-label="x: [^"]*"[^>]*transform="translate\([\d.-]+,([\d.-]+)\)"', svg)
    return [round(float(height)) for height in marks]


print("positive values:", heights([1, 10, 100, 1000]))
print("with a zero:    ", heights([0, 10, 100, 1000]))
assert heights([1, 10, 100, 1000]) == [300, 200, 100, 0]
assert len(set(heights([0, 10, 100, 1000]))) == 1, "changed: points have heights of their own"
PYTHON
