"""Single needle frames with the labels of everything that is drawn on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import IterableDataset

from x2l.needles import backgrounds
from x2l.needles.render import Renderer
from x2l.needles.video_file import compressed
from x2l.needles.world import BELL, CARD_COLOURS, FRAME_COLOURS, PATTERNS, SHAPES, Script, write_script
from x2l.preprocessing.pixels import preprocess
from x2l.training.loop import own_steps

CARD_LABELS = {"colour": CARD_COLOURS, "shape": (*SHAPES, BELL), "digit": tuple(range(10))}
SCENE_LABELS = {"frame_colour": FRAME_COLOURS, "pattern": PATTERNS, "night": (False, True)}
FILE_SIZE = 256
"""Side of the pictures in needle video files, in pixels."""


@dataclass
class NeedleFrames(IterableDataset):
    """Endless batches (pixels, labels) of independent frames; batch i depends on (seed, i) only.

    Half of the frames are drawn at the tower's size, half at the size of video files, compressed as a
    codec would and scaled down by the tower's own pre-processing.
    """

    image_size: int
    batch_size: int
    num_batches: int
    seed: int
    first_batch: int = 0

    def __iter__(self) -> Iterator[tuple[Float[Tensor, "frames 3 size size"], dict[str, Tensor]]]:
        footage = backgrounds.load("train", self.seed)
        for number in own_steps(self.first_batch, self.num_batches):
            yield self._batch(np.random.default_rng([self.seed, number]), footage)

    def __len__(self) -> int:
        """Batches of the whole stage: Lightning counts those before a resumed run's first one as fetched."""
        return self.num_batches

    def _batch(self, rng: np.random.Generator, footage: list):
        frames, labels = [], []
        while len(frames) < self.batch_size:
            script = write_script(rng, num_scenes=8, seconds_per_scene=1, num_backgrounds=8)
            chosen = [footage[i].variant(rng) for i in rng.integers(len(footage), size=8)]
            size = FILE_SIZE if rng.random() < 0.5 else self.image_size
            renderer = Renderer(size, chosen)
            for second in range(8):
                frame = renderer.frame(script, float(second))
                frames.append(compressed(frame, rng) if size == FILE_SIZE else frame)
                labels.append(labels_of(script, second))
        pixels = torch.cat([preprocess(frame[None], self.image_size) for frame in frames])
        return noisy(pixels, rng), {name: torch.tensor([x[name] for x in labels]) for name in labels[0]}


def labels_of(script: Script, second: int) -> dict[str, list[int] | int]:
    """Class numbers of the four cards (by cell) and of the scene."""
    scene = script.scene(float(second))
    cards = sorted(script.cards[second], key=lambda card: card.cell)
    of_cards = {
        name: [classes.index(getattr(card, name)) for card in cards] for name, classes in CARD_LABELS.items()
    }
    of_scene = {name: classes.index(getattr(scene, name)) for name, classes in SCENE_LABELS.items()}
    return of_cards | of_scene


def noisy(pixels: Float[Tensor, "frames 3 size size"], rng: np.random.Generator) -> Tensor:
    """Gaussian noise of a random strength for each frame."""
    strength = torch.from_numpy(rng.uniform(0, 0.15, (len(pixels), 1, 1, 1))).float()
    noise = torch.from_numpy(rng.standard_normal(pixels.shape, dtype=np.float32))
    return pixels + strength * noise
