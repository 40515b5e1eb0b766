"""When a frame was seen, in a form that a language model can add to what was seen.

Source: the sinusoids of Vaswani et al. 2017 (arXiv 1706.03762), section 3.5, over seconds.
Differs: Video-XL has no sense of time but the order of its tokens; Video-XL-2 writes time stamps as text.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

LONGEST_S = 10_000.0


def time_code(times_s: Float[Tensor, " frames"], size: int) -> Float[Tensor, "frames size"]:
    """Sine and cosine of the seconds at `size / 2` rates, from 1 to 1 / LONGEST_S radians per second.

    A later time is the same rotation of the code wherever it starts, so that "ten seconds later" is linear.
    """
    rates = LONGEST_S ** -torch.linspace(0, 1, size // 2, device=times_s.device)
    angles = times_s.float()[:, None] * rates
    return torch.cat((angles.sin(), angles.cos()), dim=-1)
