"""Everything on disk: indices, files that are written whole, checkpoints and their fingerprints."""
