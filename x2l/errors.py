"""The one error for bad input. Imports nothing heavy, so that the command line starts fast."""

import sys
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class X2LError(ValueError):
    """Bad input: one line that names the file or field and what was expected. Exit code 2."""


def unknown(where: str, name: str, known: Iterable[str]) -> X2LError:
    """The error for a `name` that is not `known`, with the closest one that is."""
    known = sorted(known)
    close = get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return X2LError(f"{where}: unknown, expected one of {', '.join(known) or '(none)'}{hint}")


def out_of_memory(error: Exception) -> X2LError | None:
    """What to tell of an error if it means that memory ran out, on the device or on the host; else None."""
    # Not imported: a process that ran out of torch's memory has done so.
    torch = sys.modules.get("torch")
    on_device = torch is not None and isinstance(error, torch.OutOfMemoryError)
    # Of the host's, torch raises an error of no class of its own.
    if on_device or isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
        return X2LError(
            "out of memory, `x2l estimate` tells what is needed; "
            f"less is with --dtype bf16, --max-frames or a smaller backbone.max_pixels: {error}"
        )
    return None


def require(condition: bool, path: str, expected: str, got: Any) -> None:
    """Raise X2LError naming a field by its dotted path unless its value fits."""
    if not condition:
        raise X2LError(f"{path}: expected {expected}, got {got!r}")
