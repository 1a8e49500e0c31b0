"""From results to an HTML report."""
