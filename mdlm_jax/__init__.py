"""Autoregressive, any-order and diffusion language models under one train step, compared per unit of compute."""
