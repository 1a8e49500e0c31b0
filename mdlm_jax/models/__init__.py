"""The transformer, its attention backends, caches, layouts and ladder of sizes."""
