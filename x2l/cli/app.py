"""`x2l`: its commands, and how it ends: 0, or one line on stderr and 2 for bad input."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import warnings
from collections.abc import Sequence

import click

from x2l import __version__
from x2l.cli.ask import ask
from x2l.cli.chat import chat
from x2l.cli.check import check
from x2l.cli.compare import compare
from x2l.cli.estimate import estimate
from x2l.cli.eval import evaluate
from x2l.cli.export import export
from x2l.cli.fit import fit
from x2l.cli.index import index
from x2l.cli.list import list_videos
from x2l.cli.methods import methods
from x2l.cli.needles import needles
from x2l.cli.report import report
from x2l.cli.verify import verify
from x2l.cli.web import web
from x2l.errors import X2LError, out_of_memory

BAD_INPUT, INTERRUPTED = 2, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="x2l", message="%(prog)s %(version)s")
def x2l() -> None:
    """Answer questions about long videos at a small fraction of the KV memory.

    \b
    x2l ask video.mp4 "How many bells appear in the video?"
    x2l index video.mp4 -o index/    then ask as often as you like:
    x2l ask index/ "Is it mostly day or mostly night?"
    """


COMMANDS = (
    *(ask, chat, web, index, list_videos, check, estimate, verify, methods, needles),
    *(evaluate, report, compare, export, fit),
)

for command in COMMANDS:
    x2l.add_command(command)

# The name of `estimate` until 0.1: plans are what answers have.
x2l.add_command(click.Command("plan", callback=estimate.callback, params=estimate.params, hidden=True))


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line (default: that of the process) and return its exit code.

    Whatever is neither bad input nor an interruption is a bug, and is raised.
    """
    # Every progress bar, those of other packages too, appears only where it takes longer than a second.
    os.environ.setdefault("TQDM_DELAY", "1")
    if args is None:
        _collect_seldom()
    args = list(sys.argv[1:] if args is None else args)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        # Those of x2l are messages to its user, whatever PYTHONWARNINGS says of others.
        warnings.filterwarnings("default", module=r"x2l\b")
        return _run(args or ["--help"])


def _collect_seldom() -> None:
    """Spare a process the search for garbage among modules, a third of the time of a short command."""
    gc.set_threshold(50_000, 20, 100)
    atexit.register(gc.freeze)


def _run(args: list[str]) -> int:
    try:
        return x2l.main(args, prog_name="x2l", standalone_mode=False) or 0
    except X2LError as error:
        return _refuse(str(error))
    except click.ClickException as error:
        return _refuse(error.format_message())
    except click.Abort:
        click.echo("x2l: interrupted", err=True)
        return INTERRUPTED
    except PermissionError as error:
        return _refuse(f"{error.filename}: {error.strerror}")
    except (MemoryError, RuntimeError) as error:  # click's own, above, is one too
        if refused := out_of_memory(error):
            return _refuse(str(refused))
        raise


def _refuse(message: str) -> int:
    click.echo(f"x2l: error: {' '.join(message.split())}", err=True)
    return BAD_INPUT


def _show_warning(message, *_) -> None:
    click.echo(f"x2l: warning: {message}", err=True)
