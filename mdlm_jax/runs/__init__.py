"""One run in its folder: training from config to result, checkpoints, metrics, and opening it again."""
