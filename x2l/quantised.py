"""KVs in 8 or 4 bits: affine codes, of keys for each head and channel, of values for each token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from x2l.types import KV

Bits = Literal[8, 4]


@dataclass(frozen=True)
class Quantised:
    """A tensor x as whole numbers: x is about offset + scale * code, with a code of 0 to 2**bits - 1.

    codes: one in a byte, or two along the last axis (4 bits). scale, offset: as precise as x was.
    """

    codes: UInt8[Tensor, "*shape tokens bytes"]
    scale: Float[Tensor, "*shape #tokens #dim"]
    offset: Float[Tensor, "*shape #tokens #dim"]
    bits: Bits

    @classmethod
    def of(cls, x: Float[Tensor, "*shape tokens dim"], bits: Bits, along: int) -> Quantised:
        """Codes with one scale and offset along an axis; off by half a scale, and what rounding x costs."""
        most = 2**bits - 1
        offset = x.amin(dim=along, keepdim=True)
        range_ = x.amax(dim=along, keepdim=True).float() - offset.float()
        scale = (range_ / most).to(x.dtype)
        step = scale.float().where(scale > 0, torch.ones_like(range_))  # equal numbers are all offset
        codes = ((x.float() - offset.float()) / step).round().clamp(0, most).to(torch.uint8)
        return cls(codes if bits == 8 else _in_pairs(codes), scale, offset, bits)

    def materialise(self) -> Float[Tensor, "*shape tokens dim"]:
        *shape, size = self.codes.shape
        x = self.scale.new_empty(*shape, size * 8 // self.bits)
        self.write(x)
        return x

    def write(self, place: Float[Tensor, "*shape tokens dim"]) -> None:
        """Put what it stands for into a place, rounded once: half precision is computed elsewhere."""
        is_wide = place.dtype == torch.float32
        x = place if is_wide else torch.empty_like(place, dtype=torch.float32)
        if self.bits == 8:
            x.copy_(self.codes)
        else:
            low, high = x.chunk(2, dim=-1)
            low.copy_(self.codes & 15), high.copy_(self.codes >> 4)
        x.mul_(self.scale).add_(self.offset)
        if not is_wide:
            place.copy_(x)

    def to(self, device: torch.device | str) -> Quantised:
        tensors = (tensor.to(device) for tensor in (self.codes, self.scale, self.offset))
        return Quantised(*tensors, self.bits)

    @property
    def num_bytes(self) -> int:
        return self.codes.nbytes + self.scale.nbytes + self.offset.nbytes


def _in_pairs(codes: UInt8[Tensor, "*shape dim"]) -> UInt8[Tensor, "*shape pairs"]:
    """Two numbers of 4 bits in a byte, from either half: rotation asks for heads of even size."""
    low, high = codes.chunk(2, dim=-1)
    return low | high << 4


@dataclass(frozen=True)
class PackedKV:
    """A KV in 8 or 4 bits. It stays so in memory, on disk and on its way to a device, where it is unpacked.

    Keys before rotation differ by channel and so have a scale for each, over all tokens; values have one
    for each token. Positions and counts are what they were.

    Source: KIVI (arXiv 2402.02750), section 3. Differs: the tokens of a level are one group, none stay full.
    """

    keys: Quantised
    values: Quantised
    positions: Int[Tensor, "axes *#batch #layers #kv_heads tokens"]
    rotated: bool = False
    counts: Float[Tensor, "*#batch tokens"] | None = None

    @classmethod
    def of(cls, kv: KV, bits: Bits) -> PackedKV:
        keys, values = Quantised.of(kv.keys, bits, along=-2), Quantised.of(kv.values, bits, along=-1)
        return cls(keys, values, kv.positions, kv.rotated, kv.counts)

    @property
    def num_tokens(self) -> int:
        return self.keys.codes.shape[-2]

    @property
    def num_bytes(self) -> int:
        """Of codes, scales and offsets; as of a KV, without positions and counts."""
        return self.keys.num_bytes + self.values.num_bytes

    def to(self, device: torch.device | str) -> PackedKV:
        if self.positions.device == torch.device(device):
            return self
        counts = None if self.counts is None else self.counts.to(device)
        keys, values = self.keys.to(device), self.values.to(device)
        return replace(self, keys=keys, values=values, positions=self.positions.to(device), counts=counts)

    def materialise(self) -> KV:
        keys, values = self.keys.materialise(), self.values.materialise()
        return KV(keys, values, self.positions, self.rotated, self.counts)

    def write(
        self,
        keys: Float[Tensor, "*batch layers kv_heads tokens head_dim"],
        values: Float[Tensor, "*batch layers kv_heads tokens head_dim"],
    ) -> None:
        """Unpack keys and values to where they shall lie, on the device that this lies on."""
        self.keys.write(keys)
        self.values.write(values)

    def tensors(self) -> dict[str, Tensor | None]:
        """What it is made of, by name; `of_tensors` makes it again."""
        parts = {"keys": self.keys, "values": self.values}
        named = {f"{part}_{name}": getattr(of, name) for part, of in parts.items() for name in _TENSORS}
        return named | {"positions": self.positions, "counts": self.counts}

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor], bits: Bits, rotated: bool) -> PackedKV:
        keys, values = (
            Quantised(*(tensors[f"{part}_{name}"] for name in _TENSORS), bits) for part in ("keys", "values")
        )
        return cls(keys, values, tensors["positions"], rotated, tensors.get("counts"))


_TENSORS = ("codes", "scale", "offset")
