"""What training costs: FLOPs, memory, hardware peaks, prices, and published rules for rates and batches."""
