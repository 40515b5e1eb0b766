"""A safetensors file, read by memory map; a tensor is held against its checksum when it is first read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from mmap import ACCESS_COPY, mmap
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from xxhash import xxh3_64_hexdigest

from x2l.errors import X2LError

_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
}
"""The format's names of types."""


def checksum(tensor: Tensor) -> str:
    """XXH3 (64 bits, 16 hex digits) of the contents of a contiguous tensor in host memory."""
    row = tensor.as_strided((tensor.numel(),), (1,))  # one of a single number may have any stride
    return xxh3_64_hexdigest(row.view(torch.uint8).numpy())


class TensorFile:
    """An open file. Its tensors are views of the map: pages are read when they are used.

    An answer reads a thousand small tensors, for which safetensors' own get_tensor takes ten times as long.

    Raises X2LError naming the file if it is not a safetensors file.
    """

    def __init__(self, path: Path):
        self.path = path
        self._verified: set[str] = set()
        self._checksums: Mapping[str, str] | None = None
        try:
            with safe_open(path, "pt"):  # raises for a header that does not fit the file
                pass
            with path.open("rb") as file:
                whole = memoryview(mmap(file.fileno(), 0, access=ACCESS_COPY))
        except (SafetensorError, OSError) as error:
            raise X2LError(f"{path}: damaged, {error}") from error
        start = 8 + int.from_bytes(whole[:8], "little")
        self._front, self._contents = whole[:start], whole[start:]
        self._header: dict[str, Any] = json.loads(bytes(self._front[8:]))
        self.notes: Mapping[str, str] = self._header.pop("__metadata__", {})

    def expect(self, checksums: Mapping[str, str] | None) -> None:
        """Hold tensors against these checksums of their contents, by name; None: they are not verified."""
        self._checksums = checksums

    def header_checksum(self) -> str:
        """XXH3 of what stands in front of the contents: names, types, shapes and places of the tensors."""
        return xxh3_64_hexdigest(self._front)

    def tensor(self, name: str) -> Tensor:
        """A tensor by its name. Raises X2LError naming file and tensor if it is not what was written."""
        entry = self._entry(name)
        contents, dtype = self._contents_of(entry), _DTYPES[entry["dtype"]]
        if name not in self._verified:
            if not self._is_whole(name, contents):
                raise X2LError(f"{self.path}: {name}: damaged, not what was written (its checksum differs)")
            self._verified.add(name)
        if not contents:  # which frombuffer refuses
            return torch.empty(entry["shape"], dtype=dtype)
        return torch.frombuffer(contents, dtype=dtype).view(entry["shape"])

    def damaged(self) -> list[str]:
        """Names of the tensors that are not what was written."""
        pairs = self._header.items()
        return [name for name, entry in pairs if not self._is_whole(name, self._contents_of(entry))]

    def shape(self, name: str) -> list[int]:
        """Shape of a tensor, from the header. Raises X2LError if there is no such tensor."""
        return self._entry(name)["shape"]

    def num_bytes(self, name: str) -> int:
        """Bytes of a tensor, from the header. Raises X2LError if there is no such tensor."""
        return len(self._contents_of(self._entry(name)))

    def _entry(self, name: str) -> dict[str, Any]:
        if name not in self._header:
            raise X2LError(f"{self.path}: damaged, holds no tensor {name!r}")
        return self._header[name]

    def _contents_of(self, entry: dict[str, Any]) -> memoryview:
        first, end = entry["data_offsets"]
        return self._contents[first:end]

    def _is_whole(self, name: str, contents: memoryview) -> bool:
        return self._checksums is None or xxh3_64_hexdigest(contents) == self._checksums.get(name)
