"""Indices of all videos of a folder, by one process or several; what is there already stays."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from x2l.cli import setup
from x2l.cli.options import Options
from x2l.errors import X2LError
from x2l.recipe import Recipe
from x2l.registry import PARTS
from x2l.storage.files import alone_in, make_folder
from x2l.storage.library import Entry, Indices, Library
from x2l.video import videos_in


@dataclass(frozen=True)
class Done:
    """What became of a folder's videos. broken: "name: why" of those that cannot be read."""

    num_there: int
    num_made: int
    broken: tuple[str, ...]


def index_folder(folder: Path, out: Path, options: Options, jobs: int) -> Done:
    """Put every video of a folder into a library; one that is there, unchanged, is not opened.

    Raises X2LError if there is no video, none can be read, or another run writes there.
    """
    names = videos_in(folder)
    if not names:
        raise X2LError(f"{folder}: holds neither videos nor pictures, expected some")
    settings = _settings(setup.make_recipe(options), options)
    make_folder(out)
    with alone_in(out):
        library = Library.make(out)
        made_from = {name: {"settings": settings, **_stamp(folder / name)} for name in names}
        owed = [name for name in names if library.made_from(name) != made_from[name]]
        broken = []
        bar = tqdm(desc="index", unit="video", total=len(names), delay=1, disable=options.quiet)
        with bar:
            bar.update(len(names) - len(owed))
            for name, made in _made(folder, owed, library.indices.folder, options, jobs):
                if isinstance(made, str):
                    broken.append(made)
                else:
                    library.add(name, Entry(made_from=made_from[name], **made))
                bar.update()
    if len(broken) == len(names):
        raise X2LError(f"{folder}: no video could be indexed, the first: {broken[0]}")
    return Done(len(names) - len(owed), len(owed) - len(broken), tuple(sorted(broken)))


def _settings(recipe: Recipe, options: Options) -> str:
    """Hash of how videos are indexed, checkpoints by their files' sizes and times."""
    mapping = recipe.to_mapping()
    paths = [Path(str(mapping[slot].get(name))) for slot in PARTS for name in ("model", "weights")]
    files = [sorted(path.iterdir()) if path.is_dir() else [path] for path in paths if path.exists()]
    stamps = [_stamp(file) for file in chain.from_iterable(files)]
    decisive = [mapping, options.reader, options.salvage, stamps]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


def _stamp(path: Path) -> dict[str, int]:
    about = path.stat()
    return {"bytes": about.st_size, "modified_ns": about.st_mtime_ns}


Made = tuple[str, "dict[str, Any] | str"]
"""Name of a video, with the fields of its entry or with why it cannot be read."""


def _made(folder: Path, names: Sequence[str], indices: Path, options: Options, jobs: int) -> Iterator[Made]:
    if not names:
        return
    if jobs == 1:
        maker = _Maker(folder, indices, options)
        yield from map(maker.made, names)
        return
    # Not forked: a device, and threads of a library, do not survive that.
    begin = (folder, indices, options, max(1, (os.cpu_count() or 1) // jobs))
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _begin, begin)
    try:
        futures = [pool.submit(_made_by_worker, name) for name in names]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise X2LError(f"jobs: one of {jobs} was killed, expected memory for a model in each") from error
    finally:
        pool.shutdown(cancel_futures=True)


class _Maker:
    """Indexes videos with one pipeline."""

    def __init__(self, folder: Path, indices: Path, options: Options):
        self._folder, self._options, self._indices = folder, options, Indices(indices)
        self._recipe = setup.make_recipe(options)
        self._pipeline = setup.make_pipeline(self._recipe, progress=False)

    def made(self, name: str) -> Made:
        try:
            video = setup.open_with(self._recipe, str(self._folder / name), self._options)
            key = self._pipeline.key(video)
            made = self._indices.get(key)
            index = self._pipeline.index(video) if made is None else made
        except (X2LError, OSError) as error:
            return name, " ".join(f"{name}: {error}".split())
        if made is None:
            self._indices.put(key, index)
        facts = {
            "num_frames": video.num_frames,
            "duration_s": video.duration_s,
            "index_bytes": index.num_bytes,
        }
        return name, {"key": key, "recipe": setup.remembered(self._recipe), **facts}


_worker: _Maker | None = None


def _begin(folder: Path, indices: Path, options: Options, num_threads: int) -> None:
    global _worker
    torch.set_num_threads(num_threads)
    _worker = _Maker(folder, indices, options)


def _made_by_worker(name: str) -> Made:
    return _worker.made(name)
