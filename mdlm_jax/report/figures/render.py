"""Draws the specification of a figure for a page, a slide or a paper, without a network."""

import json
import subprocess
import sys
from functools import cache
from typing import Any

import vl_convert
from markupsafe import Markup

from mdlm_jax.report.figures.charts import GRID, TEXT, Specification

VERSION = "6.4"  # of Vega-Lite, for the page and the files
PIXELS = 2  # of a PNG for each pixel of the page
AXIS = {"gridColor": GRID, "labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal", "domainColor": "#666"}
CONFIG = {
    "font": "sans-serif",
    "background": "white",
    "view": {"stroke": None},
    "axis": AXIS | {"labelColor": TEXT, "titleColor": TEXT, "tickColor": "#666"},
    "title": {"anchor": "start", "fontSize": 13, "subtitleFontSize": 12, "subtitleColor": "#555", "color": TEXT},
    "legend": {"labelFontSize": 11, "titleFontSize": 11, "labelLimit": 400, "titleFontWeight": "normal"},
    "concat": {"spacing": 24},
}


def specification(chart: Specification) -> Specification:
    """The chart with the style of all figures."""
    return {"$schema": f"https://vega.github.io/schema/vega-lite/v{VERSION}.json", "config": CONFIG} | chart


def svg(specified: Specification) -> str:
    """The SVG of a specification, without zooming, for which every line would be clipped alone (3 s for 500 lines)."""
    panels = [panel | {"layer": [_still(layer) for layer in panel["layer"]]} for panel in specified["concat"]]
    return vl_convert.vegalite_to_svg(specified | {"concat": panels}, vl_version=VERSION, allowed_base_urls=[])


def _still(layer: dict[str, Any]) -> dict[str, Any]:
    kept = [parameter for parameter in layer.get("params", []) if parameter.get("bind") != "scales"]
    return layer | {"params": kept} if "params" in layer else layer


def png(drawn: str) -> bytes:
    """The PNG of an SVG."""
    return vl_convert.svg_to_png(drawn, scale=PIXELS)


def files(specified: Specification) -> tuple[str, bytes]:
    """(SVG, PNG) of a specification."""
    drawn = svg(specified)
    return drawn, png(drawn)


@cache
def drawing_code() -> Markup:
    """JavaScript that defines `draw(element, specification)`: Vega, Vega-Lite and Vega-Embed in one piece.

    Another process bundles it, since bundling holds Python's global lock for a second while figures are made.
    """
    options = {"actions": False, "renderer": "svg"}
    snippet = f"window.draw = (element, chart) => vegaEmbed(element, chart, {json.dumps(options)});"
    program = f"import vl_convert; print(vl_convert.javascript_bundle({snippet!r}, vl_version={VERSION!r}))"
    command = [sys.executable, "-X", "utf8", "-c", program]
    bundle = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=True).stdout
    # as text of a script element, where only these would end it or open a comment
    return Markup(bundle.replace("</script", "<\\/script"))


def embedded(specified: Specification) -> Markup:
    """A specification as the text of a script element, without its title, which the page has in a heading."""
    text = json.dumps(
        {key: part for key, part in specified.items() if key != "title"}, separators=(",", ":"), allow_nan=False
    )
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
