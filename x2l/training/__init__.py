"""Post-training with Lightning, through the functions that inference uses; loop and folder of any run."""
