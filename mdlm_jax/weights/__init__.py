"""Public checkpoints in and out: safetensors folders and GGUF files as parameters of this package's network."""
