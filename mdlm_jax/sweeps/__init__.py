"""Many runs: experiments, launchers, claims, states and tuning."""
