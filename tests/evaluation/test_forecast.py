"""What an evaluation says that it is about to do."""

from models import small_video

from x2l.backbones.x2l_tiny import X2LTiny
from x2l.compressors.vst import VST
from x2l.costs.dry_run import dry_run
from x2l.evaluation import forecast as room
from x2l.evaluation.forecast import forecast
from x2l.evaluation.rows import make_rows
from x2l.items import Item
from x2l.recipe import Recipe
from x2l.selectors.top_k import TopK
from x2l.types import Question

SPECS = {
    "bi-level": {"selector": {"name": "top_k", "k": 1}},
    "bi-level, two": {"selector": {"name": "top_k", "k": 2}},
    "observing": {"compressor": "snap", "selector": "constant"},
}


def test_rows_tell_tokens_and_memory_and_all_together_the_least_time(tmp_path, monkeypatch):
    """An index that rows share is counted once for each video, a method that observes not at all."""
    monkeypatch.setattr(room, "_flops_per_s", lambda backbone: 1e6)
    rows = {name: {"chunk_frames": 2, **changes} for name, changes in SPECS.items()}
    groups = make_rows({name: Recipe.from_mapping(row) for name, row in rows.items()})
    absent = Item.of_file(tmp_path / "absent.mp4", [Question("?", "a")])
    there = Item.of_file(small_video(tmp_path), [Question("?", "a"), Question("?", "b")])
    head, one, two, observing, least = forecast(groups, [absent, there])
    assert head == "2 videos, 3 questions, 3 rows"
    assert one.startswith("bi-level: 8 frames, 128 tokens, 34 in the cache; index ")
    said = (
        "observing: no estimate, compressor snap: needs observe_attention, which x2l-tiny on paper does not"
    )
    assert observing.startswith(said)
    sheets = [dry_run(X2LTiny.sizes, VST(), TopK(k), (2, 32), 8, 2, "float32") for k in (1, 2)]
    assert f"{sheets[1].hybrid_tokens} in the cache" in two
    flops = 2 * (sheets[0].tower_flops + sheets[0].prefill_flops) + 3 * sum(
        each.answer_flops for each in sheets
    )
    minutes, seconds = divmod(round(flops / 1e6), 60)
    hours, minutes = divmod(minutes, 60)
    assert least.startswith(
        f"at least {hours} h {minutes} min;" if hours else f"at least {minutes} min {seconds} s;"
    )


def test_a_device_is_measured():
    assert 1e8 < room._flops_per_s(X2LTiny.from_pretrained()) < 1e14


def test_nothing_is_told_of_videos_that_cannot_be_opened(tmp_path):
    groups = make_rows({"only": Recipe()})
    _, row, _ = forecast(groups, [Item.of_file(tmp_path / "absent.mp4", [Question("?", "a")])])
    assert row == "only: no estimate, no video can be opened"
