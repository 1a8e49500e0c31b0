"""What a trained network is worth: likelihoods with their errors."""
