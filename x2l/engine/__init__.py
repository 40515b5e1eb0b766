"""Bases of methods: a language model that reads a cache, text between frames, compressors by chunk."""
