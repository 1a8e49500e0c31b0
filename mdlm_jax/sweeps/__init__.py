"""Sweeps: experiments, launchers, claims, run states and tuning."""
