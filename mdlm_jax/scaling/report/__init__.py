"""The report of a sweep: each figure defined once, drawn in the page, as PNG and as SVG, and in words."""
