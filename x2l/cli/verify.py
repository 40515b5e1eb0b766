"""`x2l verify`: whether x2l is right on a checkpoint."""

from __future__ import annotations

import click

from x2l.cli.options import device_option, dtype_option, plugin_option


@click.command(short_help="Check that x2l is right on the checkpoint that you have.")
@click.argument("model")
@click.option("--backbone", metavar="NAME", help="Of the checkpoint; by default by its model_type.")
@click.option("--video", metavar="FILE", help="What it looks at; by default a small one is made.")
@click.option(
    "--frames",
    type=click.IntRange(min=8),
    default=16,
    show_default=True,
    help="Of the video, as if one a second.",
)
@device_option
@dtype_option
@click.option("--json", "file", metavar="FILE", help="Write the page as JSON, too.")
@plugin_option
@click.option("--quiet", is_flag=True, help="No progress bars.")
def verify(
    model: str,
    backbone: str | None,
    video: str | None,
    frames: int,
    device: str | None,
    dtype: str | None,
    file: str | None,
    plugins: tuple[str, ...],
    quiet: bool,
) -> None:
    """Check MODEL, a checkpoint folder or a model on the hub, and print a page: pass, FAIL or skipped.

    Weights, tokenizer and chat template fit each other; a video becomes tokens; without compression, x2l
    is the stock model, to its logits and the tokens that it writes; on two levels there is an answer. Tokens,
    memory and speed stand beside what `x2l estimate` counts. What fails is named, with exit code 2.
    """
    import transformers
    from tqdm import tqdm

    from x2l import registry
    from x2l.config.paths import local_path
    from x2l.engine.loading import DTYPES, require_device
    from x2l.errors import X2LError
    from x2l.storage.files import make_folder, write_json
    from x2l.storage.hub import checkpoint_folder
    from x2l.verification.checks import verdicts
    from x2l.verification.footage import frames_of, sample_frames
    from x2l.verification.page import Page, verdict_line
    from x2l.verification.subject import Subject, backbone_class
    from x2l.verification.verify import CHECKS

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for plugin in plugins:
        registry.load_plugin(plugin)
    require_device(device or "cpu")
    if file:
        make_folder(local_path(file).parent)
    folder = checkpoint_folder(model, "MODEL")
    made_for = backbone_class(folder, backbone)
    shown = frames_of(video, frames) if video else sample_frames(frames)
    precision = str(DTYPES[dtype or "float32"]).removeprefix("torch.")
    subject = Subject(folder, made_for, shown, device or "cpu", precision, not quiet)
    page = Page(subject)
    click.echo(f"{page.head()}\n")
    with tqdm(CHECKS, "verify", unit="check", delay=1, disable=quiet, leave=False) as bar:
        for verdict in verdicts(bar, subject):
            page.verdicts.append(verdict)
            bar.write(verdict_line(verdict))
    click.echo(f"\n{page.figures()}".rstrip())
    if file:
        write_json(local_path(file), page.data())
    if page.failed:
        some = f"{len(page.failed)} of {len(CHECKS)} checks fail"
        raise X2LError(f"{model}: {some}: {', '.join(page.failed)}")
