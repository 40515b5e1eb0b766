"""Lightning's own command line over the same parts, for runs that a recipe does not describe.

    python -m x2l.training.lightning_cli fit --config run.yaml

Every class is named by class_path with its init_args: modules, data, optimizers, callbacks and loggers of
your own too. Lightning saves the configuration beside the checkpoints.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lightning.pytorch.cli import LightningCLI

from x2l.errors import X2LError
from x2l.training.qa_data import BrokenVideos, VideoQADataModule
from x2l.training.x2l_module import X2LModule


def main(args: Sequence[str] | None = None) -> LightningCLI:
    """Run Lightning's fit, validate or test; `args` default to those of the process."""
    return LightningCLI(
        X2LModule,
        VideoQADataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_kwargs={"overwrite": True},
        # The data is the whole run, however often it shows a video.
        trainer_defaults={"max_epochs": 1, "inference_mode": False, "callbacks": [BrokenVideos()]},
        args=args and list(args),
    )


if __name__ == "__main__":
    try:
        main()
    except (X2LError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
