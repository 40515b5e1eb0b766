"""Training from nothing: the embedded backbone and the embedded towers."""
