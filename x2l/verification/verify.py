"""The checks of a checkpoint, in order."""

from __future__ import annotations

from x2l.verification.checkpoint import prompt, tokenizer, weights
from x2l.verification.checks import Check
from x2l.verification.identity import chunks, decoder
from x2l.verification.levels import levels
from x2l.verification.stock import stock
from x2l.verification.vision import vision

CHECKS = (
    Check("weights", weights),
    Check("tokenizer", tokenizer, ("weights",)),
    Check("prompt", prompt, ("weights",)),
    Check("vision", vision, ("weights",)),
    Check("chunks", chunks, ("prompt", "vision")),
    Check("decoder", decoder, ("prompt", "vision")),
    Check("stock model", stock, ("prompt", "vision")),
    Check("two levels", levels, ("prompt", "vision")),
)
"""One question each: a new one is a function, and a line here."""
