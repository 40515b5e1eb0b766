"""Costs of a video on paper: FLOPs, sizes of published models, a pre-fill on tensors that hold nothing."""
