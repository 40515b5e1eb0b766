"""`x2l index`: pre-fill a video once, or all of a folder, to be asked as often as wanted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from x2l.cli.options import Options, shared_options

if TYPE_CHECKING:
    from x2l.waiting import Waiting


@click.command(short_help="Pre-fill a video, or a folder of them, once and keep the KVs.")
@click.argument("video", metavar="VIDEO|FOLDER")
@click.option("-o", "--out", metavar="DIR", required=True, help="Where the index goes; an index is replaced.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, help="Videos of a folder at one time.")
@click.option("--follow", is_flag=True, help="VIDEO is being written, or a stream: index it as it comes.")
@click.option(
    "--idle",
    metavar="S",
    type=click.FloatRange(min=0),
    default=10.0,
    help="What is followed has ended when nothing came for so long (default 10).",
)
@click.option(
    "--max-waiting",
    metavar="N",
    type=click.IntRange(min=1),
    default=60,
    help="Frames of a live stream that wait for the model; of more, the oldest is dropped (default 60).",
)
@shared_options
def index(
    video: str, out: str, jobs: int, follow: bool, idle: float, max_waiting: int, options: Options
) -> None:
    """Pre-fill VIDEO once and keep its KVs as an index directory, which `x2l ask` takes for a video.

    Of a FOLDER of videos (pictures are one video) DIR is a library: `x2l list` shows it, `x2l ask DIR --video
    NAME` asks about one. Stopped, it goes on where it was; a video that cannot be read is named at the end.
    Videos that are the same share an index.

    With --follow, a chunk is in DIR when the next has come, and DIR can be asked meanwhile. Stopped, it goes
    on behind its last chunk. VIDEO is a file, - or an address (http, rtsp, rtmp, srt, udp).

    The directory remembers the options: asking uses them unless it is given others.
    """
    from x2l.cli import setup
    from x2l.config.paths import local_path

    is_folder = not follow and setup.is_folder_of_videos(local_path(video))
    if jobs > 1 and not is_folder:
        raise click.UsageError("--jobs is for a folder of videos")
    if follow:
        _follow(video, out, idle, max_waiting, options)
    elif is_folder:
        _index_folder(local_path(video), local_path(out), jobs, options)
    else:
        _index_video(video, out, options)


def _index_video(video: str, out: str, options: Options) -> None:
    from x2l.cli import setup, texts
    from x2l.config.paths import local_path
    from x2l.storage import store

    store.require_replaceable(local_path(out))
    recipe = setup.make_recipe(options)
    opened = setup.open_with(recipe, video, options)
    progress = not options.quiet
    made = setup.make_pipeline(recipe, progress).index(opened, progress)
    kept = {**setup.remembered(recipe), **made.spec.recipe}
    store.save(replace(made, spec=replace(made.spec, recipe=kept)), out)
    if progress:
        click.echo(texts.index_text(made, out))


def _follow(video: str, out: str, idle_s: float, max_waiting: int, options: Options) -> None:
    from tqdm import tqdm

    from x2l.cli import setup, texts
    from x2l.storage import store
    from x2l.video import follow, is_live, name_of
    from x2l.waiting import Waiting

    if options.reader or options.salvage:
        raise click.UsageError("--follow excludes --reader and --salvage")
    recipe = setup.make_recipe(options)
    pipeline = setup.make_pipeline(recipe, progress=not options.quiet)
    waiting = Waiting(max_waiting) if is_live(video) else None
    frames, remembered = follow(video, idle_s), setup.remembered(recipe)
    chunks = pipeline.stream(frames, out, name_of(video), remembered, waiting)
    with tqdm(chunks, "follow", unit="chunk", disable=options.quiet) as bar:
        for chunk in bar:
            bar.set_postfix_str(f"{chunk.end_s:.1f} s of video{_lag(waiting)}")
    if waiting is not None and waiting.num_dropped:
        click.echo(f"x2l: warning: {video}: faster than the model{_lag(waiting)}", err=True)
    if not options.quiet:
        click.echo(texts.index_text(store.load(out), out))


def _lag(waiting: Waiting | None) -> str:
    return "" if waiting is None else f", {len(waiting)} frames waiting, {waiting.num_dropped} dropped"


def _index_folder(folder: Path, out: Path, jobs: int, options: Options) -> None:
    from x2l.broken import passed_over
    from x2l.cli.folder import index_folder

    done = index_folder(folder, out, options, jobs)
    if not options.quiet:
        click.echo(f"{out}  {done.num_made} videos indexed, {done.num_there} were there")
    if done.broken:
        click.echo(f"x2l: warning: {passed_over(done.broken)}", err=True)
