"""Keys and values with room behind them: more are written there, and none that are held are copied."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from transformers.cache_utils import DynamicLayer

Tokens = Float[Tensor, "*shape tokens dim"]


class Room:
    """Memory that holds tokens and has room for more behind them.

    buffer: what lies at its start may be appended to; None: there is none yet.
    """

    def __init__(self, buffer: Tokens | None = None):
        self.buffer = buffer

    def append(
        self, tokens: Tokens, new: Float[Tensor, "*shape new dim"], spare: int = 0
    ) -> Float[Tensor, "*shape more dim"]:
        """The tokens with new ones behind them; what lay behind them before is overwritten.

        Copies them only where they are not the start of the buffer, or it has no room for the new ones and as
        many more as `spare`.
        """
        start, end = tokens.shape[-2], tokens.shape[-2] + new.shape[-2]
        if not self.holds(tokens) or end + spare > self.buffer.shape[-2]:
            # Growing by an eighth, a token is copied about eight times, however many come.
            capacity = end + spare + max(64, end // 8)
            self.buffer = new.new_empty(*new.shape[:-2], capacity, new.shape[-1])
            self.buffer[..., :start, :] = tokens
        self.buffer[..., start:end, :] = new
        return self.buffer[..., :end, :]

    def holds(self, tokens: Tokens) -> bool:
        """Whether the tokens are the start of the buffer."""
        if self.buffer is None or self.buffer.shape[:-2] != tokens.shape[:-2]:
            return False
        return self.buffer.data_ptr() == tokens.data_ptr()


class RoomyLayer(DynamicLayer):
    """A layer of a cache that is filled with keys and values and has room behind them.

    key_room, value_room: where they lie, if there is room behind them. With gradients nothing is overwritten:
    they need what has been read.
    """

    def __init__(
        self,
        keys: Float[Tensor, "batch kv_heads tokens head_dim"],
        values: Float[Tensor, "batch kv_heads tokens head_dim"],
        key_room: Float[Tensor, "batch kv_heads more head_dim"] | None = None,
        value_room: Float[Tensor, "batch kv_heads more head_dim"] | None = None,
    ):
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values
        self._rooms = Room(key_room), Room(value_room)

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        if torch.is_grad_enabled():
            return super().update(key_states, value_states, *args, **kwargs)
        of_keys, of_values = self._rooms
        self.keys = of_keys.append(self.keys, key_states)
        self.values = of_values.append(self.values, value_states)
        return self.keys, self.values

    def reset(self) -> None:
        super().reset()
        self._rooms = Room(), Room()
