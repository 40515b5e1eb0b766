"""A frame as a small picture inside a page."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def thumbnail(frame: UInt8[np.ndarray, "height width 3"], longest: int = 192) -> str:
    """A data URI of a JPEG whose longer side is `longest` pixels, or the frame's own if it is shorter."""
    picture, content = Image.fromarray(frame), BytesIO()
    picture.thumbnail((longest, longest))
    picture.save(content, "jpeg", quality=80)
    return f"data:image/jpeg;base64,{b64encode(content.getvalue()).decode()}"
