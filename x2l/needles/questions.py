"""Plain English questions about a Script, with short answers known from the script alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import combinations, permutations

import numpy as np

from x2l.needles.world import BELL, FRAME_COLOURS, PATTERNS, Card, Scene, Script
from x2l.types import Question, X2LError

_DETAIL = (
    "In the scene with the {cue} frame, what number is on the {card}?",
    "What number is on the {card} in the scene with the {cue} frame?",
    "Which digit is printed on the {card} in the scene with the {cue} frame?",
    "Look at the scene with the {cue} frame. Which number does the {card} show?",
)


def _other(template: str) -> str:
    return template.replace("{cue}", "{other}").replace("{card}", "{other_card}")


TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "detail": _DETAIL,
    "scoped": _DETAIL,
    "pair": tuple(f"{first} {_other(second)}" for first, second in permutations(_DETAIL, 2)),
    "before": (
        "Does the scene with the {cue} frame come before the scene with the {other} frame?",
        "Is the scene with the {cue} frame earlier than the scene with the {other} frame?",
        "Does the {cue} frame appear before the {other} frame?",
    ),
    "earlier": (
        "Which frame comes earlier, the {cue} one or the {other} one?",
        "Which colour is the frame that comes earlier, {cue} or {other}?",
        "Which frame appears earlier, the {cue} frame or the {other} frame?",
    ),
    "after": (
        "What colour is the frame of the scene right after the one with the {cue} frame?",
        "Which colour is the frame that comes right after the {cue} frame?",
        "What is the frame colour of the next scene after the one with the {cue} frame?",
    ),
    "tally": (
        "How many scenes have a {pattern} frame?",
        "In how many scenes is there a {pattern} frame?",
        "What is the number of scenes with a {pattern} frame?",
    ),
    "count": (
        "How many bells appear in the video?",
        "How many bells are there in the video?",
        "What is the number of bells in the whole video?",
    ),
    "exist": (
        "Is there a scene with the {cue} frame?",
        "Does any scene have the {cue} frame?",
        "Does the video show a scene with the {cue} frame?",
    ),
    "daynight": (
        "Is it mostly day or mostly night in the video?",
        "Does most of the video happen by day or by night?",
        "Are most scenes in the day or in the night?",
    ),
    "pattern": (
        "Which pattern do most frames have?",
        "What is the most common pattern of the frames?",
        "Which frame pattern appears in most scenes?",
    ),
    "moment": (
        "Which digit is printed on the {card} at {time}?",
        "Look at the scene at {time}. Which number does the {card} show?",
        "What number is on the {card} at {time}?",
    ),
}
"""Phrasings by kind. A cue is a pattern and a frame colour, a card a colour and a shape, a time 1:23."""

GROUPS: Mapping[str, str] = {
    "detail": "detail",
    "scoped": "detail",
    "pair": "multi_detail",
    "before": "ordering",
    "earlier": "ordering",
    "after": "ordering",
    "tally": "counting",
    "count": "counting",
    "exist": "holistic",
    "daynight": "holistic",
    "pattern": "holistic",
    "moment": "time",
}

CHOICES = ("earlier",)
"""Kinds whose question names the two answers there are to choose from."""

_Drawn = tuple[dict[str, str], str, tuple[Scene, ...]]
"""Fields of the template, the answer, and the scenes that hold it (none: the whole video)."""


def ask_all(
    script: Script, rng: np.random.Generator, counts: Mapping[str, int], inner_only: bool = False
) -> list[Question]:
    """Draw up to `counts[kind]` questions of every kind about one video.

    There are fewer where the video has no more: details and "after" never repeat, a kind without a sure
    answer (the pattern in a tie, order in one scene) gives none. `inner_only` keeps the asked details out
    of the first and the last scene. Ids are "{kind}-{i}"; gold spans are those of the scenes asked about,
    None for counting and holistic questions, where they would give the answer away.

    Raises X2LError for an unknown kind.
    """
    questions = []
    for kind, count in counts.items():
        if kind not in _DRAW:
            raise X2LError(f"question kind {kind!r}: expected one of {', '.join(_DRAW)}")
        scenes = range(1, len(script.scenes) - 1) if inner_only else range(len(script.scenes))
        drawn = _DRAW[kind](script, rng, count, scenes) if count else []
        questions += [_phrase(rng, kind, i, *item) for i, item in enumerate(drawn)]
    return questions


def ask_needle(script: Script, rng: np.random.Generator, scene: int) -> Question:
    """The digit on a coloured shape that the video shows once, in a given scene; its frame may occur again.

    A detail of a video so long that frames repeat: the card alone tells which one is meant.
    Raises X2LError if the scene holds no such card.
    """
    cards = [card for place, card in script.unique_cards if place == scene]
    if not cards:
        raise X2LError(f"scene {scene}: expected a card that the video shows once")
    return _phrase(rng, "detail", 0, *_digit_on(_pick(rng, cards), script.scenes[scene]))


def _phrase(
    rng, kind: str, i: int, fields: dict[str, str], answer: str, scenes: tuple[Scene, ...]
) -> Question:
    return Question(
        id=f"{kind}-{i}",
        text=_pick(rng, TEMPLATES[kind]).format(**fields),
        answer=answer,
        group=GROUPS[kind],
        gold_spans_s=tuple(sorted({scene.span_s for scene in scenes})) or None,
    )


def _detail(script: Script, rng: np.random.Generator, count: int, scenes: Iterable[int]) -> list[_Drawn]:
    """The digit on a coloured shape that the video shows once, in a scene whose frame it shows once."""
    named = set(_named_scenes(script)) & set(scenes)
    cards = [(script.scenes[scene], card) for scene, card in script.unique_cards if scene in named]
    return [_digit_on(card, scene) for scene, card in _sample(rng, cards, count)]


def _scoped(script: Script, rng: np.random.Generator, count: int, scenes: Iterable[int]) -> list[_Drawn]:
    """The digit on a coloured shape that its scene shows once and other scenes too: the frame decides."""
    named = set(_named_scenes(script)) & set(scenes)
    shown = _shown(script)
    in_video = Counter(card.name for _, _, card in shown)
    in_scene = Counter((scene, card.name) for scene, _, card in shown)
    cards = [
        (script.scenes[scene], card)
        for scene, _, card in shown
        if scene in named and in_scene[scene, card.name] == 1 and in_video[card.name] > 1
    ]
    return [_digit_on(card, scene) for scene, card in _sample(rng, cards, count)]


def _digit_on(card: Card, scene: Scene) -> _Drawn:
    return {"cue": scene.cue, "card": card.name}, str(card.digit), (scene,)


def _moment(script: Script, rng: np.random.Generator, count: int, scenes: Iterable[int]) -> list[_Drawn]:
    """The digit on a coloured shape that its scene shows once and others of `scenes` too: the time decides.

    Scenes that are none of `scenes` do not show it.
    """
    shown = _shown(script)
    in_scene = Counter((scene, card.name) for scene, _, card in shown)
    by_card: dict[str, set[int]] = {}
    for scene, card in in_scene:
        by_card.setdefault(card, set()).add(scene)
    cards = [
        (scene, second, card)
        for scene, second, card in shown
        if in_scene[scene, card.name] == 1 and len(by_card[card.name]) > 1 and by_card[card.name] <= {*scenes}
    ]
    return [
        (
            {"card": card.name, "time": f"{second // 60}:{second % 60:02}"},
            str(card.digit),
            (script.scenes[scene],),
        )
        for scene, second, card in _sample(rng, cards, count)
    ]


def _pair(script: Script, rng: np.random.Generator, count: int, scenes: Iterable[int]) -> list[_Drawn]:
    """Two details of different scenes in one question; the answer is both digits."""
    details = _detail(script, rng, len(script.unique_cards), scenes)
    pairs = [pair for pair in zip(details[::2], details[1::2], strict=False) if pair[0][2] != pair[1][2]]
    return [
        (
            {**fields, "other": other["cue"], "other_card": other["card"]},
            f"{digit} {other_digit}",
            (*scene, *other_scene),
        )
        for (fields, digit, scene), (other, other_digit, other_scene) in pairs[:count]
    ]


def _before(script: Script, rng: np.random.Generator, count: int, scenes: Iterable[int]) -> list[_Drawn]:
    named = _named_scenes(script)
    if len(named) < 2:
        return []
    drawn = []
    for is_yes in _coins(rng, count):
        early, late = (script.scenes[i] for i in sorted(rng.choice(named, 2, replace=False)))
        first, second = (early, late) if is_yes else (late, early)
        drawn.append(({"cue": first.cue, "other": second.cue}, _yes_no(is_yes), (early, late)))
    return drawn


def _earlier(script: Script, rng: np.random.Generator, count: int, scenes: Iterable[int]) -> list[_Drawn]:
    """Which of two frames of different colours comes first: its colour."""
    named = [script.scenes[i] for i in _named_scenes(script)]
    pairs = [pair for pair in combinations(named, 2) if pair[0].frame_colour != pair[1].frame_colour]
    drawn = []
    for (early, late), in_order in zip(_sample(rng, pairs, count), _coins(rng, count), strict=False):
        first, second = (early, late) if in_order else (late, early)
        drawn.append(({"cue": first.cue, "other": second.cue}, early.frame_colour, (early, late)))
    return drawn


def _after(script: Script, rng: np.random.Generator, count: int, scenes: Iterable[int]) -> list[_Drawn]:
    pairs = [script.scenes[i : i + 2] for i in _named_scenes(script) if i + 1 < len(script.scenes)]
    return [
        ({"cue": asked.cue}, after.frame_colour, (asked, after))
        for asked, after in _sample(rng, pairs, count)
    ]


def _tally(script: Script, rng: np.random.Generator, count: int, scenes: Iterable[int]) -> list[_Drawn]:
    """Scenes with a pattern, where they are fewer than ten: a digit."""
    times = Counter(scene.pattern for scene in script.scenes)
    patterns = [pattern for pattern in PATTERNS if times[pattern] < 10]
    return [({"pattern": pattern}, str(times[pattern]), ()) for pattern in _sample(rng, patterns, count)]


def _count(script: Script, rng: np.random.Generator, count: int, scenes: Iterable[int]) -> list[_Drawn]:
    return [({}, str(script.num_bells), ())] * count


def _exist(script: Script, rng: np.random.Generator, count: int, scenes: Iterable[int]) -> list[_Drawn]:
    """Half of the asked frames are in the video. The pattern is drawn first: it does not tell which half."""
    present = {scene.cue for scene in script.scenes}
    grid = [[f"{pattern} {colour}" for colour in FRAME_COLOURS] for pattern in PATTERNS]
    choices = {
        is_yes: [cues for row in grid if (cues := [cue for cue in row if (cue in present) == is_yes])]
        for is_yes in (True, False)
    }
    if not choices[False]:
        return []
    return [
        ({"cue": _pick(rng, _pick(rng, choices[is_yes]))}, _yes_no(is_yes), ())
        for is_yes in _coins(rng, count)
    ]


def _daynight(script: Script, rng: np.random.Generator, count: int, scenes: Iterable[int]) -> list[_Drawn]:
    return _majority(("night" if scene.night else "day" for scene in script.scenes), count)


def _pattern(script: Script, rng: np.random.Generator, count: int, scenes: Iterable[int]) -> list[_Drawn]:
    return _majority((scene.pattern for scene in script.scenes), count)


_DRAW: Mapping[str, Callable[..., list[_Drawn]]] = {
    "detail": _detail,
    "scoped": _scoped,
    "pair": _pair,
    "before": _before,
    "earlier": _earlier,
    "after": _after,
    "tally": _tally,
    "count": _count,
    "exist": _exist,
    "daynight": _daynight,
    "pattern": _pattern,
    "moment": _moment,
}


def _shown(script: Script) -> list[tuple[int, int, Card]]:
    """(scene, second, card) of every card that is no bell."""
    return [
        (second // script.seconds_per_scene, second, card)
        for second, cards in enumerate(script.cards)
        for card in cards
        if card.shape != BELL
    ]


def _majority(names: Iterable[str], count: int) -> list[_Drawn]:
    """The most frequent name; nothing in a tie."""
    (top, most), *others = Counter(names).most_common(2)
    is_tie = bool(others) and others[0][1] == most
    return [] if is_tie else [({}, top, ())] * count


def _named_scenes(script: Script) -> list[int]:
    """Scenes whose frame occurs once, so that it names them."""
    times = Counter(scene.cue for scene in script.scenes)
    return [i for i, scene in enumerate(script.scenes) if times[scene.cue] == 1]


def _coins(rng: np.random.Generator, count: int) -> list[bool]:
    """Alternating from a random start: balanced within a video and over videos."""
    first = int(rng.integers(2))
    return [(first + i) % 2 == 0 for i in range(count)]


def _sample(rng: np.random.Generator, items: list, count: int) -> list:
    return [items[i] for i in rng.permutation(len(items))[:count]]


def _pick(rng: np.random.Generator, items):
    return items[rng.integers(len(items))]


def _yes_no(is_yes: bool) -> str:
    return "yes" if is_yes else "no"
