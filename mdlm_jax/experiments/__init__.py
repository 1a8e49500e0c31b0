"""Experiments by name: `mdlm-jax sweep plan quickstart`."""
