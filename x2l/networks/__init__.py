"""Networks that transformers does not have: VSTs in Qwen2, a sparse pre-fill, towers and projectors."""
