"""What methods are built on: a language model that reads a cache, text among frames, compressors by chunk."""
