"""The script of a needle video: scenes one after the other, four new cards in every second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from x2l.types import X2LError

FRAME_COLOURS = ("crimson", "amber", "lime", "teal", "navy", "violet", "ivory", "black")
PATTERNS = ("plain", "striped", "dotted", "checked")
CARD_COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown", "white")
SHAPES = ("circle", "square", "triangle", "star", "diamond", "heart", "cross", "hexagon", "moon", "arrow")
BELL = "bell"
CARDS_PER_SECOND = 4
MAX_BELLS = 6

_NUM_CUES = len(FRAME_COLOURS) * len(PATTERNS)
NUM_PAIRS = len(CARD_COLOURS) * len(SHAPES)
MAX_UNIQUE_PAIRS = 60
"""The other pairs are fillers: they repeat freely and are never asked for."""
_REPEATED_COLOURS = 6
"""Frame colours of one pattern once cues repeat: the rest stay absent, for "is there" questions."""
_MAX_BACKGROUND_START_S = 60.0


@dataclass(frozen=True)
class Card:
    """A coloured shape with a digit on it, shown for one second.

    `cell` is 0..3 in a 2x2 grid, row by row; `jitter` (right, down), each -1, 0 or 1, moves it in its cell.
    """

    colour: str
    shape: str
    digit: int
    cell: int
    jitter: tuple[int, int]

    @property
    def name(self) -> str:
        """How a question names it."""
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """A stretch of video behind one kind of frame, by day or by night.

    `background` numbers the footage, which is played from `background_start_s` on.
    """

    frame_colour: str
    pattern: str
    night: bool
    background: int
    background_start_s: float
    start_s: float
    end_s: float

    @property
    def cue(self) -> str:
        """How a question names the frame of this scene."""
        return f"{self.pattern} {self.frame_colour}"

    @property
    def span_s(self) -> tuple[float, float]:
        return self.start_s, self.end_s


@dataclass(frozen=True)
class Script:
    """A whole video: scenes of `seconds_per_scene` (the last may be shorter), four cards per second."""

    scenes: tuple[Scene, ...]
    cards: tuple[tuple[Card, ...], ...]
    seconds_per_scene: int

    @property
    def num_seconds(self) -> int:
        return len(self.cards)

    def second(self, time_s: float) -> int:
        """The second that shows at `time_s`; times outside the video show its nearest second."""
        rounding = 1e-6
        return min(max(int(time_s + rounding), 0), self.num_seconds - 1)

    def scene(self, time_s: float) -> Scene:
        return self.scenes[self.second(time_s) // self.seconds_per_scene]

    @cached_property
    def num_bells(self) -> int:
        return sum(card.shape == BELL for cards in self.cards for card in cards)

    @cached_property
    def unique_cards(self) -> tuple[tuple[int, Card], ...]:
        """(scene, card) for every coloured shape that occurs exactly once in the video; no bells."""
        shown = [(second, card) for second, cards in enumerate(self.cards) for card in cards]
        times = Counter((card.colour, card.shape) for _, card in shown)
        return tuple(
            (second // self.seconds_per_scene, card)
            for second, card in shown
            if times[card.colour, card.shape] == 1 and card.shape != BELL
        )


def check_pairs(unique_pairs: int, filler_pairs: int, path: str = "") -> None:
    """Raise X2LError, with `path` in front, if there are not so many coloured shapes."""
    if unique_pairs < 0 or filler_pairs < 1 or unique_pairs + filler_pairs > NUM_PAIRS:
        raise X2LError(
            f"{path}unique_pairs + filler_pairs: expected 0 + 1 to {NUM_PAIRS} together, "
            f"got {unique_pairs} + {filler_pairs}"
        )


def write_script(
    rng: np.random.Generator,
    num_scenes: int,
    seconds_per_scene: int = 10,
    last_scene_seconds: int | None = None,
    num_backgrounds: int = 1,
    unique_pairs: int = MAX_UNIQUE_PAIRS,
    filler_pairs: int = NUM_PAIRS - MAX_UNIQUE_PAIRS,
    first_scenes: Collection[int] = (),
    own_frames: Collection[int] = (),
) -> Script:
    """Draw a video. Equal generators give equal scripts.

    Frames are unique within a video of at most 32 scenes. Up to 60 coloured shapes occur exactly once,
    spread evenly over the scenes. There are 1..6 bells, never two in one second. One of day and night has
    at least twice the scenes of the other; one pattern has at least 1.5 times the scenes of any other (of
    8..23 scenes; fewer: at least one scene more; 24..32: as clear as unique frames allow, a tie from 30 on).

    unique_pairs, filler_pairs: how many coloured shapes occur at most once, and how many others repeat; few
    fillers make cards that only their scene tells apart.
    first_scenes: scenes that get a unique pair before any other does; at most `unique_pairs` of them.
    own_frames: scenes whose frame no other scene has, however many there are.

    Raises X2LError for numbers that make no video.
    """
    last_scene_seconds = seconds_per_scene if last_scene_seconds is None else last_scene_seconds
    _check(num_scenes, seconds_per_scene, last_scene_seconds, num_backgrounds)
    check_pairs(unique_pairs, filler_pairs)
    if len(first_scenes) > unique_pairs:
        raise X2LError(f"first_scenes: expected at most {unique_pairs}, got {len(first_scenes)}")
    num_seconds = (num_scenes - 1) * seconds_per_scene + last_scene_seconds
    scenes = _draw_scenes(rng, num_scenes, seconds_per_scene, num_seconds, num_backgrounds)
    cards = _draw_cards(rng, num_seconds, seconds_per_scene, unique_pairs, filler_pairs, first_scenes)
    return Script(_with_own_frames(rng, scenes, own_frames), cards, seconds_per_scene)


def _check(num_scenes: int, seconds_per_scene: int, last_scene_seconds: int, num_backgrounds: int) -> None:
    for name, value in (
        ("num_scenes", num_scenes),
        ("seconds_per_scene", seconds_per_scene),
        ("num_backgrounds", num_backgrounds),
    ):
        if value < 1:
            raise X2LError(f"{name}: expected 1 or more, got {value}")
    if not 1 <= last_scene_seconds <= seconds_per_scene:
        raise X2LError(f"last_scene_seconds: expected 1..{seconds_per_scene}, got {last_scene_seconds}")


def _draw_scenes(rng, num_scenes, seconds_per_scene, num_seconds, num_backgrounds) -> tuple[Scene, ...]:
    cues = _draw_cues(rng, num_scenes)
    nights = _draw_nights(rng, num_scenes)
    # Steps of 1..n-1 modulo n: neighbours always differ.
    backgrounds = np.cumsum(rng.integers(1, max(num_backgrounds, 2), num_scenes)) % num_backgrounds
    background_starts_s = rng.uniform(0, _MAX_BACKGROUND_START_S, num_scenes)
    starts_s = range(0, num_seconds, seconds_per_scene)
    return tuple(
        Scene(
            frame_colour=colour,
            pattern=pattern,
            night=bool(nights[i]),
            background=int(backgrounds[i]),
            background_start_s=float(background_starts_s[i]),
            start_s=float(start_s),
            end_s=float(min(start_s + seconds_per_scene, num_seconds)),
        )
        for i, (start_s, (pattern, colour)) in enumerate(zip(starts_s, cues, strict=True))
    )


def _with_own_frames(rng, scenes: tuple[Scene, ...], own: Collection[int]) -> tuple[Scene, ...]:
    """Whatever has the frame of a scene of `own` gets another colour.

    Raises X2LError if `own` needs all colours of a pattern.
    """
    made, kept = list(scenes), set()
    for i in sorted(range(len(scenes)), key=lambda i: i not in own):
        pattern = scenes[i].pattern
        if (pattern, scenes[i].frame_colour) in kept:
            free = [colour for colour in FRAME_COLOURS if (pattern, colour) not in kept]
            if not free:
                raise X2LError(f"own_frames: expected fewer, there are {len(FRAME_COLOURS)} {pattern} frames")
            made[i] = replace(scenes[i], frame_colour=str(rng.choice(free)))
        if i in own:
            kept.add((pattern, made[i].frame_colour))
    return tuple(made)


def _draw_nights(rng: np.random.Generator, num_scenes: int) -> np.ndarray:
    num_fewer = rng.integers(num_scenes // 3 + 1)
    fewer = rng.permutation(num_scenes) < num_fewer
    return fewer if rng.random() < 0.5 else ~fewer


def _draw_cues(rng: np.random.Generator, num_scenes: int) -> list[tuple[str, str]]:
    """(pattern, frame colour) of every scene."""
    cues = []
    for pattern, count in zip(rng.permutation(PATTERNS), _draw_pattern_counts(rng, num_scenes), strict=True):
        palette = rng.permutation(FRAME_COLOURS)
        palette = palette if count <= len(palette) else palette[:_REPEATED_COLOURS]
        cues += [(str(pattern), str(palette[i % len(palette)])) for i in range(count)]
    return [cues[i] for i in rng.permutation(num_scenes)]


def _draw_pattern_counts(rng: np.random.Generator, num_scenes: int) -> list[int]:
    """Scenes per pattern, the most frequent first, drawn by the clearest rule that can be kept."""
    most_allowed = len(FRAME_COLOURS) if num_scenes <= _NUM_CUES else num_scenes
    for most_others in _majority_rules(num_scenes):
        tops = [
            top
            for top in range(1, min(most_allowed, num_scenes) + 1)
            if num_scenes - top <= (len(PATTERNS) - 1) * most_others(top)
        ]
        if tops:
            top = int(rng.choice(tops[:3]))  # the least lopsided ones
            return [top, *_deal(rng, num_scenes - top, most_others(top))]
    raise AssertionError("the last rule fits any number of scenes")


def _majority_rules(num_scenes: int) -> list:
    """How many scenes another pattern may have when the most frequent one has `top`; clearest first."""

    def clear(top):
        return min(int(top / 1.5), top - 2)

    weaker = [lambda top: top - 2, lambda top: top - 1, lambda top: top]
    return weaker[1:] if num_scenes < 8 else [clear, *weaker]


def _deal(rng: np.random.Generator, num_scenes: int, most: int) -> list[int]:
    """Split scenes over the other patterns at random, at most `most` each."""
    places = rng.permutation(np.repeat(np.arange(len(PATTERNS) - 1), most))[:num_scenes]
    return np.bincount(places, minlength=len(PATTERNS) - 1).tolist()


def _draw_cards(
    rng,
    num_seconds: int,
    seconds_per_scene: int,
    unique_pairs: int,
    filler_pairs: int,
    first_scenes: Collection[int],
) -> tuple[tuple[Card, ...], ...]:
    """Slot 4 s + c is the card in cell c at second s."""
    num_slots = num_seconds * CARDS_PER_SECOND
    bell_slots = _draw_bell_slots(rng, num_seconds)
    free_slots = rng.permutation(np.setdiff1d(np.arange(num_slots), bell_slots))
    ordered_slots = _spread(free_slots, seconds_per_scene * CARDS_PER_SECOND, first_scenes)
    unique_slots = ordered_slots[:unique_pairs]
    shuffled = rng.permutation(NUM_PAIRS)
    pairs = rng.choice(shuffled[unique_pairs:][:filler_pairs], num_slots)
    pairs[unique_slots] = shuffled[: len(unique_slots)]
    colours, shapes = np.divmod(pairs, len(SHAPES))
    names = np.array(SHAPES)[shapes]
    names[bell_slots] = BELL
    digits = rng.integers(10, size=num_slots).tolist()
    jitters = rng.integers(-1, 2, (num_slots, 2)).tolist()
    cards = [
        Card(CARD_COLOURS[colours[i]], str(names[i]), digits[i], i % CARDS_PER_SECOND, tuple(jitters[i]))
        for i in range(num_slots)
    ]
    return tuple(tuple(cards[i : i + CARDS_PER_SECOND]) for i in range(0, num_slots, CARDS_PER_SECOND))


def _draw_bell_slots(rng: np.random.Generator, num_seconds: int) -> np.ndarray:
    count = rng.integers(1, min(MAX_BELLS, num_seconds) + 1)
    seconds = rng.choice(num_seconds, count, replace=False)
    return seconds * CARDS_PER_SECOND + rng.integers(CARDS_PER_SECOND, size=count)


def _spread(slots: np.ndarray, slots_per_scene: int, first_scenes: Collection[int]) -> np.ndarray:
    """Reorder slots so that any first n of them are spread evenly over the scenes, first ones in front."""
    seen: Counter[int] = Counter()
    ranks = []
    for scene in (slots // slots_per_scene).tolist():
        ranks.append(-1 if scene in first_scenes and not seen[scene] else seen[scene])
        seen[scene] += 1
    return slots[np.argsort(ranks, kind="stable")]
