"""The precisions by name. Needs no torch, so that the command line can list them at once."""

from __future__ import annotations

FULL_NAMES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""torch's name of each precision, by the short name that commands take."""
DTYPES = {name: full for short, full in FULL_NAMES.items() for name in (short, full)}
"""torch's name of each precision, by every name that it may be given by."""
