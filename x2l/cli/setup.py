"""From options to working parts: recipe, video, pipeline. Everything that can be refused early is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import transformers

from x2l import registry
from x2l.chunkers import make_chunker, spelling
from x2l.cli.options import Options
from x2l.config.paths import local_path
from x2l.config.settings import read_settings
from x2l.engine.loading import require_device
from x2l.errors import X2LError
from x2l.pipeline import Pipeline
from x2l.pipeline.indexing import COMPRESSOR_WEIGHTS, require_same_weights
from x2l.recipe import RECOMMENDED, Recipe, build_pipeline
from x2l.storage import store
from x2l.storage.library import MARK, Library, is_library
from x2l.types import VideoIndex
from x2l.video import Footage, is_stills, open_video

FIXED = ("compressor", "ratios", "chunk_frames", "sampling")
"""What an index was made with and a question cannot change."""


def make_recipe(options: Options, stored: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe that the options ask for, checked; `stored` or a file takes the place of RECOMMENDED.

    Raises X2LError naming the wrong file or field, or a device that this machine does not have.
    """
    for plugin in options.plugins:
        registry.load_plugin(plugin)
    data = dict(stored or ({} if options.recipe else RECOMMENDED))
    if options.recipe:
        Recipe.load(options.recipe)  # its errors name the file
        data |= read_settings(options.recipe)
    recipe = Recipe.from_mapping(data).apply(options.overrides()).check()
    require_device(recipe.backbone.get("device", "cpu"))
    return recipe


def make_recipe_for(index: VideoIndex, source: str, options: Options) -> Recipe:
    """The recipe of an index, with the options that still can be chosen.

    Raises X2LError for options that only another index can honour.
    """
    if options.reader or options.salvage:
        raise X2LError(f"{source}: is an index, --reader and --salvage are for a video")
    stored = _stored_recipe(index)
    recipe = make_recipe(options, stored)
    for key in FIXED:
        asked, made = _comparable(recipe, key), _comparable(Recipe.from_mapping(stored), key)
        if key in stored and asked != made:
            raise X2LError(f"{key}: the index {source} was made with {made}, not {asked}; make another index")
    return recipe


def remembered(recipe: Recipe) -> dict[str, Any]:
    """The part of a recipe that an index keeps, for any working directory; without the device."""
    data = recipe.to_mapping()
    for slot in registry.PARTS:
        part = data[slot]
        part.pop("device", None)
        for name in ("model", "weights"):
            # What is neither folder nor file is the name of a model on the hub.
            if isinstance(path := part.get(name), str) and Path(path).exists():
                part[name] = str(Path(path).resolve())
    return data


def open_with(recipe: Recipe, path: str, options: Options) -> Footage:
    """The video, opened; says on stderr what could not be salvaged, and when its pictures' rate is a guess.

    Raises X2LError also for an option that is not for what there is at the path.
    """
    reader, are_pictures = options.reader or "auto", is_stills(local_path(path))
    if options.picture_fps and not are_pictures:
        raise X2LError(f"{path}: is no folder of pictures, --picture-fps is for one")
    video = open_video(path, recipe.sampling, reader, options.salvage, progress=not options.quiet)
    if are_pictures and options.fps and not options.picture_fps:
        rate = f"taken as {recipe.sampling.picture_fps:g} a second, --picture-fps tells another rate"
        click.echo(f"x2l: warning: {path}: its pictures are {rate}", err=True)
    if video.lost:
        share = f"{100 * video.lost_share:.1f} % of the frames"
        click.echo(f"x2l: warning: {path}: {video.lost} frames lost ({share})", err=True)
    return video


def make_pipeline(recipe: Recipe, progress: bool = True) -> Pipeline:
    """The four parts, with the weights loaded."""
    transformers_log = transformers.utils.logging
    (transformers_log.enable_progress_bar if progress else transformers_log.disable_progress_bar)()
    return build_pipeline(recipe)


def _stored_recipe(index: VideoIndex) -> dict[str, Any]:
    sampling = index.spec.video.get("sampling")
    recipe = {key: value for key, value in index.spec.recipe.items() if key != COMPRESSOR_WEIGHTS}
    return {**({"sampling": sampling} if sampling else {}), **recipe}


def _comparable(recipe: Recipe, key: str) -> Any:
    """A part of the recipe as data, with the defaults of a method filled in."""
    if key == "compressor":
        return registry.describe(registry.build(key, recipe.compressor))
    if key == "chunk_frames":
        return spelling(make_chunker(recipe.chunk_frames))
    return recipe.to_mapping()[key]


def open_source(
    source: str, options: Options, verify: bool, video: str | None = None
) -> tuple[Pipeline, VideoIndex]:
    """The pipeline that answers, and the index to ask: at `source`, or made of the video there.

    verify: whether an index is held against its checksums. video: of a library, by its name.
    """
    progress = not options.quiet
    if (index := stored_index(source, verify, video)) is not None:
        pipeline = make_pipeline(make_recipe_for(index, source, options), progress)
        require_same_weights(index, pipeline.compressor)
        return pipeline, index
    if not verify:
        raise X2LError(f"{source}: is a video, --no-verify is for an index")
    recipe = make_recipe(options)
    video = open_with(recipe, source, options)
    pipeline = make_pipeline(recipe, progress)
    return pipeline, pipeline.index(video, progress)


def stored_index(source: str, verify: bool = True, video: str | None = None) -> VideoIndex | None:
    """The index at `source`, or that of a video of a library there; None if there is neither.

    Raises X2LError for a library without `video`, and for `video` without a library.
    """
    path = local_path(source)
    if is_library(path):
        library = Library(path)
        if video is None:
            names = ", ".join(library.names()[:10])
            raise X2LError(f"{source}: is a library, expected --video with one of its videos: {names}")
        return library.load(video, verify)
    if video is not None:
        raise X2LError(f"{source}: is no library, --video is for one")
    return store.load(source, verify) if is_index(path) else None


def is_folder_of_videos(source: Path) -> bool:
    """A folder that is neither a video's pictures nor an index or a library."""
    marks = (store.MANIFEST, MARK)
    if not os.path.isdir(source) or is_stills(source):
        return False
    return not any((source / mark).exists() for mark in marks)


def is_index(source: Path) -> bool:
    """A folder with a manifest; also one without pictures, so that loading says what is missing."""
    # os.path: a question in the place of the source may be too long for the file system.
    return os.path.isdir(source) and ((source / store.MANIFEST).exists() or not is_stills(source))
