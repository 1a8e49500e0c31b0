"""What steps, memory, data and checkpoints cost: one suite for every machine, and PyTorch beside it."""
