"""The world of needle videos: drawn by seed, true to its rules, readable as pixels, asked about correctly."""

import re
import time
from collections import Counter
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from transformers import AutoTokenizer

from x2l.backbones.video_xl import ANSWER_PROMPT, SYSTEM_PROMPT
from x2l.engine.words import unknown_words
from x2l.needles.questions import GROUPS, TEMPLATES, ask_all
from x2l.needles.render import Renderer
from x2l.needles.sprites import CARD_RGB, FRAME_RGB, card_picture
from x2l.needles.vocabulary import build_tokenizer
from x2l.needles.world import BELL, CARD_COLOURS, FRAME_COLOURS, PATTERNS, SHAPES, write_script
from x2l.types import X2LError

LENGTHS = (1, 2, 3, 5, 8, 12, 16, 21, 23, 24, 32, 40)


class Flat:
    """A background of one grey."""

    def __init__(self, level=120):
        self.level = level

    def frame(self, time_s, size):
        return np.full((size, size, 3), self.level, dtype=np.uint8)


class PlainNoise:
    """Blurred noise that drifts to the left."""

    def frame(self, time_s, size):
        noise = np.random.default_rng(0).integers(256, size=(8, 8, 3), dtype=np.uint8)
        big = np.asarray(Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC))
        return np.roll(big, int(time_s * size / 32), axis=1)


def script_of(seed=0, num_scenes=16, **options):
    return write_script(np.random.default_rng(seed), num_scenes, **options)


@cache
def scripts():
    return [script_of(seed, length, num_backgrounds=3) for length in LENGTHS for seed in range(8)]


def shown(script):
    """(scene, second, card) of every card."""
    return [
        (second // script.seconds_per_scene, second, card)
        for second, cards in enumerate(script.cards)
        for card in cards
    ]


# World


def test_same_seed_same_video_and_questions():
    counts = dict.fromkeys(TEMPLATES, 3)
    first, second = (
        (script, ask_all(script, np.random.default_rng(5), counts)) for script in (script_of(3), script_of(3))
    )
    assert first == second
    assert script_of(3) != script_of(4)


@pytest.mark.parametrize("num_scenes", LENGTHS)
def test_time_line(num_scenes):
    script = script_of(1, num_scenes, seconds_per_scene=7, last_scene_seconds=4, num_backgrounds=3)
    assert script.num_seconds == 7 * (num_scenes - 1) + 4
    assert script.scenes[-1].span_s == (script.num_seconds - 4.0, script.num_seconds)
    for before, after in pairwise(script.scenes):
        assert before.end_s == after.start_s
        assert before.background != after.background
    assert all([card.cell for card in cards] == [0, 1, 2, 3] for cards in script.cards)


def test_scene_at_a_time_is_the_scene_whose_span_holds_it():
    script = script_of(2, 5)
    for time_s in np.arange(0, script.num_seconds, 0.25):
        start_s, end_s = script.scene(float(time_s)).span_s
        assert start_s <= time_s < end_s
    assert script.scene(1e6) is script.scenes[-1]


def test_frames_are_unique_up_to_32_scenes():
    for script in scripts():
        if len(script.scenes) <= 32:
            assert len({scene.cue for scene in script.scenes}) == len(script.scenes)


def test_unique_cards_occur_once_and_many_do():
    for script in scripts():
        times = Counter((card.colour, card.shape) for _, _, card in shown(script))
        listed = [(scene, card) for scene, card in script.unique_cards]
        expected = [
            (scene, card)
            for scene, _, card in shown(script)
            if times[card.colour, card.shape] == 1 and card.shape != BELL
        ]
        assert listed == expected
        num_cards = 4 * script.num_seconds - script.num_bells
        assert len(listed) >= min(60, num_cards)
        assert len(times) - len(listed) <= 100 - 60 + len(CARD_COLOURS), (
            "fillers come from 40 pairs, and bells"
        )


def test_unique_cards_are_spread_evenly():
    for seed in range(20):
        per_scene = Counter(scene for scene, _ in script_of(seed, 20).unique_cards)
        assert [per_scene[scene] for scene in range(20)] == [3] * 20


def test_unique_cards_stand_in_every_cell_and_second():
    cards = [(s, card) for seed in range(30) for s, card in script_of(seed, 20).unique_cards]
    cells = Counter(card.cell for _, card in cards)
    assert min(cells.values()) > 0.2 * len(cards)


def test_bells_vary_and_never_share_a_second():
    counts = Counter()
    for seed in range(600):
        script = script_of(seed, 8, seconds_per_scene=2)
        seconds = [second for _, second, card in shown(script) if card.shape == BELL]
        assert len(seconds) == len(set(seconds)) == script.num_bells
        counts[script.num_bells] += 1
    assert set(counts) == {1, 2, 3, 4, 5, 6}
    assert all(60 <= count <= 140 for count in counts.values()), counts


def test_day_or_night_is_a_clear_majority_either_way():
    tops = Counter()
    for script in scripts():
        num_nights = sum(scene.night for scene in script.scenes)
        fewer, more = sorted((num_nights, len(script.scenes) - num_nights))
        assert more >= 2 * fewer
        tops[num_nights == more] += 1
    assert min(tops.values()) > 0.3 * tops.total()


def test_one_pattern_is_clearly_the_most_frequent():
    tops = Counter()
    for script in scripts():
        (top, most), *others = Counter(scene.pattern for scene in script.scenes).most_common()
        following = others[0][1] if others else 0
        if len(script.scenes) < 30 or len(script.scenes) > 32:
            assert most > following
        if 8 <= len(script.scenes) <= 23:
            assert most >= 1.5 * following and most >= following + 2
        tops[top] += 1
    assert set(tops) == set(PATTERNS)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"num_scenes": 0}, "num_scenes"),
        ({"num_scenes": 2, "seconds_per_scene": 0}, "seconds_per_scene"),
        ({"num_scenes": 2, "last_scene_seconds": 11}, "last_scene_seconds"),
        ({"num_scenes": 2, "last_scene_seconds": 0}, "last_scene_seconds"),
        ({"num_scenes": 2, "num_backgrounds": 0}, "num_backgrounds"),
    ],
)
def test_bad_numbers_are_named(options, field):
    with pytest.raises(X2LError, match=field):
        write_script(np.random.default_rng(0), **options)


# Pixels


def test_a_card_is_where_its_cell_is():
    """Left of the digit, each shape shows its own colour; the nearest colour of all is the card's."""
    script, renderer = script_of(4, 6), Renderer(96, [Flat()])
    names, palette = list(CARD_RGB), np.array(list(CARD_RGB.values()))
    for _, second, card in shown(script):
        picture = renderer.frame(script, second + 0.5)
        top, left = renderer.card_corner(card)
        row, column = divmod(card.cell, 2)
        assert (9, 48)[row] <= top and top + 33 <= (48, 87)[row]
        assert (9, 48)[column] <= left and left + 33 <= (48, 87)[column]
        pixels = picture[top : top + 33, left : left + 33].reshape(-1, 3).astype(int)
        distances = np.abs(pixels[:, None] - palette).sum(-1)
        exact = Counter(names[i] for i in distances.argmin(1)[distances.min(1) < 12])
        assert exact[card.colour] == max(exact.values()), (card, exact)


def test_frames_show_their_colour_and_their_pattern():
    shares = {"plain": (1, 1), "striped": (0.3, 0.8), "dotted": (0.4, 0.9), "checked": (0.3, 0.7)}
    script, renderer = script_of(0, 32, seconds_per_scene=1), Renderer(256, [Flat()])
    for scene in script.scenes:
        band = renderer.frame(script, scene.start_s)[:24].astype(int)
        share = (np.abs(band - FRAME_RGB[scene.frame_colour]).sum(-1) < 12).mean()
        low, high = shares[scene.pattern]
        assert low <= share <= high, scene


def test_every_card_differs_from_every_other():
    pictures = [
        np.concatenate(card_picture(colour, shape, digit, 96)).astype(np.float32).ravel()
        for colour in ("red", "white")
        for shape in (*SHAPES, BELL)
        for digit in range(10)
    ]
    pictures = np.stack(pictures)
    distances = np.stack([np.abs(pictures - picture).mean(1) for picture in pictures])
    np.fill_diagonal(distances, np.inf)
    assert distances.min() > 1.5


def test_sizes_show_the_same_picture():
    script = script_of(6, 8)
    small, large = (Renderer(size, [Flat()]).clip(script, range(0, 80, 3)) for size in (96, 256))
    shrunk = np.stack([np.asarray(Image.fromarray(f).resize((96, 96), Image.Resampling.BOX)) for f in large])
    assert np.abs(small.astype(int) - shrunk).mean() < 2.5
    moved = np.roll(shrunk, 1, axis=2)
    assert np.abs(small.astype(int) - moved).mean() > 5, "the check above would see a shift of one pixel"


def test_any_day_is_brighter_than_any_night():
    script = script_of(7, 16)
    for scene in script.scenes:
        middles = [
            Renderer(96, [Flat(level)]).frame(script, scene.start_s)[12:84, 47:49].mean()
            for level in (0, 255)
        ]
        assert max(middles) < 140 if scene.night else min(middles) > 50
    bright_night, dark_day = (np.array(level) for level in ((61, 70, 120), (60, 60, 60)))
    nights = {scene.night: scene for scene in script.scenes}
    for night, level, expected in ((True, 255, bright_night), (False, 0, dark_day)):
        shown_level = Renderer(96, [Flat(level)]).frame(script, nights[night].start_s)[10, 10]
        assert np.abs(shown_level.astype(int) - expected).max() <= 2


def test_backgrounds_move_and_cards_do_not():
    script, renderer = script_of(0, 2), Renderer(96, [PlainNoise()])
    first, second = renderer.clip(script, (3.0, 3.75))
    assert (first != second).any()
    for card in script.cards[3]:
        top, left = renderer.card_corner(card)
        clear = card_picture(card.colour, card.shape, card.digit, 96)[1]
        solid = clear[..., 0] == 0
        inside = np.s_[top : top + 33, left : left + 33]
        assert (first[inside][solid] == second[inside][solid]).all()


def test_training_frames_cost_little_more_than_light_on_their_footage():
    """1.2x, 5x with shapes checked as in this test; 300x if cards and patterns were drawn for each frame."""
    script, renderer = script_of(0, 16), Renderer(96, [Flat()])
    clip, tones = renderer.clip(script, range(160)), np.arange(256, dtype=np.uint8)

    def light():
        for picture in clip:
            lit = picture.copy()
            for channel in range(3):
                lit[..., channel] = tones[lit[..., channel]]

    rounds = [(timed(lambda: renderer.clip(script, range(160))), timed(light)) for _ in range(7)]
    frames_s, light_s = map(min, zip(*rounds, strict=True))
    assert frames_s < 20 * light_s


def timed(call):
    start_s = time.process_time()
    call()
    return time.process_time() - start_s


# Questions


@cache
def time_line_of(script):
    return [script.scene(float(second)) for second in range(script.num_seconds)]


def brute_force(script, text):
    """The answer, read from the text and from the cards and scenes as they come, one second at a time."""
    if text.count("?") > 1:
        return " ".join(brute_force(script, part) for part in text.split("?")[:-1])
    words = re.findall(r"[a-z]+", text.lower())
    cues = [f"{a} {b}" for a, b in pairwise(words) if a in PATTERNS and b in FRAME_COLOURS]
    cards = [(a, b) for a, b in pairwise(words) if a in CARD_COLOURS and b in SHAPES]
    time_line = time_line_of(script)
    named = [scene.cue for scene in time_line]
    times = re.findall(r"(\d+):(\d\d)", text)
    if times:
        minutes, seconds = map(int, times[0])
        found = [
            card for card in script.cards[60 * minutes + seconds] if (card.colour, card.shape) == cards[0]
        ]
        assert len(found) == 1
        return str(found[0].digit)
    if cards:
        found = [
            card
            for second, scene in enumerate(time_line)
            for card in script.cards[second]
            if (card.colour, card.shape) == cards[0] and scene.cue == cues[0]
        ]
        assert len(found) == 1
        return str(found[0].digit)
    if {"many", "number"} & {*words} and (patterns := {*words} & {*PATTERNS}):
        return str(len({scene.start_s for scene in time_line if scene.pattern in patterns}))
    if "bells" in words:
        return str(sum(card.shape == BELL for cards in script.cards for card in cards))
    if len(cues) == 2:
        firsts = [named.index(cue) for cue in cues]
        if "or" in words or words[0] == "which":
            return time_line[min(firsts)].frame_colour
        return "yes" if max(np.flatnonzero(np.array(named) == cues[0])) < firsts[1] else "no"
    if "after" in words:
        last = max(second for second, cue in enumerate(named) if cue == cues[0])
        return time_line[last + 1].frame_colour
    if cues:
        return "yes" if cues[0] in named else "no"
    if "pattern" in words:
        return Counter(scene.pattern for scene in time_line).most_common(1)[0][0]
    num_nights = sum(scene.night for scene in time_line)
    return "night" if 2 * num_nights > len(time_line) else "day"


def test_answers_are_those_of_an_independent_reading():
    rng, kinds = np.random.default_rng(0), Counter()
    for script in scripts():
        for question in ask_all(script, rng, dict.fromkeys(TEMPLATES, 4)):
            assert question.answer == brute_force(script, question.text), question
            assert re.fullmatch(r"[a-z]+|\d( \d)?", question.answer)
            kind, number = question.id.split("-")
            assert question.group == GROUPS[kind] and int(number) < 4
            kinds[kind] += 1
    assert set(kinds) == set(TEMPLATES) and min(kinds.values()) > 300


def test_gold_spans_hold_the_needle():
    script, rng = script_of(8, 12), np.random.default_rng(1)
    for question in ask_all(script, rng, dict.fromkeys(TEMPLATES, 20)):
        cues = {cue for cue in (scene.cue for scene in script.scenes) if cue in question.text}
        if question.group in ("counting", "holistic"):
            assert question.gold_spans_s is None
            continue
        gold = [scene for scene in script.scenes if scene.span_s in question.gold_spans_s]
        assert cues <= {scene.cue for scene in gold}
        assert len(gold) == len(question.gold_spans_s) == (1 if question.group in ("detail", "time") else 2)
        if question.id.startswith("after"):
            assert gold[1].start_s == gold[0].end_s and gold[1].frame_colour == question.answer


def test_inner_details_are_never_in_an_edge_scene():
    for seed in range(20):
        script = script_of(seed, 6)
        first, last = script.scenes[0].start_s, script.scenes[-1].start_s
        questions = ask_all(script, np.random.default_rng(seed), {"detail": 99}, inner_only=True)
        starts_s = {question.gold_spans_s[0][0] for question in questions}
        assert len(starts_s) == 4 and not starts_s & {first, last}


def test_details_do_not_repeat():
    questions = ask_all(script_of(0, 16), np.random.default_rng(0), {"detail": 40})
    assert len({question.text.replace("digit", "number") for question in questions}) == 40


@pytest.mark.parametrize("kind", ["before", "exist"])
def test_yes_and_no_are_balanced(kind):
    rng = np.random.default_rng(0)
    single = Counter(ask_all(script_of(s, 8), rng, {kind: 1})[0].answer for s in range(300))
    assert 110 <= single["yes"] <= 190 and single.total() == 300
    several = Counter(question.answer for question in ask_all(script_of(0, 8), rng, {kind: 10}))
    assert several == {"yes": 5, "no": 5}


def test_which_frame_comes_earlier_is_not_told_by_the_order_of_the_words():
    rng, first_named = np.random.default_rng(0), Counter()
    for seed in range(300):
        (question,) = ask_all(script_of(seed, 8), rng, {"earlier": 1})
        colours = [word for word in re.findall(r"\w+", question.text) if word in FRAME_COLOURS]
        assert len({*colours}) == 2 and question.answer in colours
        first_named[question.answer == colours[0]] += 1
    assert 110 <= first_named[True] <= 190


def test_a_pattern_does_not_tell_whether_its_frame_exists():
    rng, answers = np.random.default_rng(0), {True: Counter(), False: Counter()}
    for seed in range(60):
        script = script_of(seed, 12)
        top = Counter(scene.pattern for scene in script.scenes).most_common(1)[0][0]
        for question in ask_all(script, rng, {"exist": 20}):
            answers[top in question.text][question.answer] += 1
    for counted in answers.values():
        assert 0.4 < counted["yes"] / counted.total() < 0.6, answers


def test_answers_vary():
    rng, answers = np.random.default_rng(0), {kind: Counter() for kind in TEMPLATES}
    for seed in range(200):
        for question in ask_all(script_of(seed, 8, seconds_per_scene=2), rng, dict.fromkeys(TEMPLATES, 1)):
            answers[question.id.split("-")[0]][question.answer] += 1
    for kind, size in {"detail": 10, "after": 8, "count": 6, "daynight": 2, "pattern": 4}.items():
        assert len(answers[kind]) == size
        assert max(answers[kind].values()) < 1.9 * 200 / size, answers[kind]


def test_what_cannot_be_asked_is_left_out():
    rng = np.random.default_rng(0)
    assert ask_all(script_of(0, 1), rng, {"before": 2, "after": 2}) == []
    assert ask_all(script_of(0, 32), rng, {"exist": 2, "pattern": 2}) == []
    assert ask_all(script_of(0, 2), rng, {"detail": 2}, inner_only=True) == []
    with pytest.raises(X2LError, match="colour"):
        ask_all(script_of(0, 2), rng, {"colour": 1})


# Words


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """Saved and loaded again, as a checkpoint folder does."""
    folder = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer().save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def test_every_word_of_2000_questions_is_known(tokenizer):
    rng, counts = np.random.default_rng(0), dict.fromkeys(TEMPLATES, 6)
    questions = [q for seed in range(50) for q in ask_all(script_of(seed, 12), rng, counts)]
    assert len(questions) >= 2000
    for question in questions:
        assert unknown_words(tokenizer, question.text) == ([":"] if question.group == "time" else [])
        assert len(tokenizer(question.answer)["input_ids"]) == len(question.answer.split())
        assert tokenizer.decode(tokenizer(question.answer)["input_ids"]) == question.answer


def test_prompts_survive_as_tokens(tokenizer):
    text = f"{SYSTEM_PROMPT}\nWhat number is on the RED star ?{ANSWER_PROMPT}"
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False)["input_ids"])
    assert " ".join(tokens) == (
        "<|im_start|> system \n you are a helpful assistant . <|im_end|> \n <|im_start|> user \n "
        "\n what number is on the red star ? <|im_end|> \n <|im_start|> assistant \n"
    )


def test_chat_template_is_that_of_the_backbone(tokenizer):
    messages = [{"role": "user", "content": "<video>"}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == f"{SYSTEM_PROMPT}<video>{ANSWER_PROMPT}"


def test_special_tokens(tokenizer):
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.pad_token == "<pad>"
    ids = tokenizer("yes<|im_end|>")["input_ids"]
    assert len(ids) == 2 and ids[1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == "yes"


def test_unknown_words_are_named_as_written(tokenizer):
    assert unknown_words(tokenizer, "What Zebra is on the giraffe?") == ["Zebra", "giraffe"]
    assert tokenizer.get_vocab() == build_tokenizer().get_vocab()


def test_scoped_questions_are_decided_by_the_scene():
    """The coloured shape is once in the asked scene, and elsewhere in the video too."""
    script = write_script(np.random.default_rng(5), 6, 3, unique_pairs=8, filler_pairs=10)
    questions = ask_all(script, np.random.default_rng(6), {"scoped": 20})
    assert questions
    for question in questions:
        start_s, end_s = question.gold_spans_s[0]
        fits = [
            (second, card)
            for second, cards in enumerate(script.cards)
            for card in cards
            if f"{card.colour} {card.shape}" in question.text
        ]
        inside = [card for second, card in fits if start_s <= second < end_s]
        assert [str(card.digit) for card in inside] == [question.answer]
        assert len(fits) > 1


@pytest.mark.parametrize("inner_only", [False, True])
def test_moments_are_decided_by_the_time(inner_only):
    """The coloured shape is once in the asked scene and in others too, with `inner_only` not at the ends."""
    num_questions = 0
    for seed in range(10):
        script = script_of(seed, 8)
        asked = ask_all(script, np.random.default_rng(seed), {"moment": 20}, inner_only)
        num_questions += len(asked)
        for question in asked:
            minutes, seconds = map(int, re.search(r"(\d+):(\d\d)", question.text).groups())
            scenes = [
                scene for scene, _, card in shown(script) if f"{card.colour} {card.shape}" in question.text
            ]
            gold = (60 * minutes + seconds) // script.seconds_per_scene
            assert question.gold_spans_s == (script.scenes[gold].span_s,)
            assert scenes.count(gold) == 1 and len({*scenes}) > 1
            assert not (inner_only and {0, 7} & {*scenes})
    assert num_questions > 50


def test_the_pool_of_pairs_is_as_small_as_asked():
    script = write_script(np.random.default_rng(5), 6, 3, unique_pairs=8, filler_pairs=10)
    shown = [(card.colour, card.shape) for cards in script.cards for card in cards if card.shape != "bell"]
    assert len(set(shown)) <= 18
    with pytest.raises(X2LError, match="unique_pairs"):
        write_script(np.random.default_rng(5), 6, unique_pairs=60, filler_pairs=41)
