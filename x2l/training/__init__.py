"""Training with Lightning, through the very functions that inference uses."""
