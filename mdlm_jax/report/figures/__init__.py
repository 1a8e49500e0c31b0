"""The figures of a report, each one Vega-Lite specification."""
