"""An index that grows on disk: a file for each chunk, on the disk before the manifest that names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError

from x2l.errors import X2LError
from x2l.storage import held, manifest, store
from x2l.storage.files import alone_in, make_folder, synced, written_whole
from x2l.types import KV, ChunkKV, IndexSpec


class Growing:
    """The index in a directory of which this process is the only writer; `growing` makes one.

    chunks: those that were there when it was opened, on disk.
    """

    def __init__(self, directory: Path, spec: IndexSpec, prefix: KV):
        self.directory, self._spec = directory, spec
        self._segments: list[dict] = []
        self.chunks: tuple[ChunkKV, ...] = ()
        if (directory / manifest.MANIFEST).exists():
            self._go_on()
        else:
            self._add(manifest.PREFIX, prefix, ())

    def append(self, chunk: ChunkKV) -> None:
        """Add a chunk, which is on the disk when this returns. Raises X2LError if it cannot be written."""
        self._add(f"chunk-{chunk.index:06}.safetensors", None, (chunk,))

    def finish(self) -> None:
        """No chunk is to come. Raises X2LError if none came."""
        if len(self._segments) == 1:
            raise X2LError(f"{self.directory}: the stream ended without a frame, expected some")
        self._write_manifest(finished=True)

    def _go_on(self) -> None:
        body = manifest.read(self.directory / manifest.MANIFEST)
        if body.get("finished", True):
            raise X2LError(f"{self.directory}: is a finished index, expected one that grows or a new folder")
        made = replace(store.spec_of(body), seconds=self._spec.seconds)
        if manifest.text(made, [], False) != manifest.text(self._spec, [], False):
            raise X2LError(
                f"{self.directory}: was begun with another model, recipe or source, expected the same"
            )
        self._segments = body["segments"]
        parts = [held.read(*each) for each in manifest.files(self.directory, body, verify=True)]
        self.chunks = tuple(chunk for _, chunks in parts for chunk in chunks)

    def _add(self, name: str, prefix: KV | None, chunks: tuple[ChunkKV, ...]) -> None:
        try:
            with written_whole(self.directory / name) as partial:
                held.write(partial, prefix, chunks)
        except SafetensorError as error:  # a full disk, among others
            raise X2LError(f"{self.directory / name}: cannot be written, {error}") from error
        self._segments = [*self._segments, manifest.segment(self.directory / name)]
        self._write_manifest(finished=False)

    def _write_manifest(self, finished: bool) -> None:
        with written_whole(self.directory / manifest.MANIFEST) as partial:
            partial.write_text(manifest.text(self._spec, self._segments, finished), encoding="utf-8")
            synced(partial)
        synced(self.directory)


@contextmanager
def growing(directory: Path, spec: IndexSpec, prefix: KV) -> Iterator[Growing]:
    """A new index, or one to go on with.

    Raises X2LError if another process writes there, or the folder holds a finished index, one that was begun
    with another spec, or other things.
    """
    store.require_replaceable(directory)
    make_folder(directory)
    with alone_in(directory):
        for torn in directory.glob(".*.part"):
            torn.unlink()
        yield Growing(directory, spec, prefix)
