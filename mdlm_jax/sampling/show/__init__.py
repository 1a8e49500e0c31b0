"""What shows sampled text on a screen or a page."""
