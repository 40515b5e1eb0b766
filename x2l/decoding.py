"""The ways to make new tokens, by name. Needs no torch, so that the command line can list them at once."""

from __future__ import annotations

DECODE = ("auto", "eager", "graph")
"""What they do: `x2l.engine.language_model.LanguageModelBackbone.generate_ids`."""
