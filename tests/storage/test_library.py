"""Indices by key, of which the last used stay, and videos by name."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from indices import assert_equal_index, error_of, make_index

from x2l.storage import store
from x2l.storage.library import Entry, Indices, Library, cache_in
from x2l.types import X2LError

ENTRY = Entry("k", {"bytes": 1}, {"selector": {"name": "constant"}}, 30, 30.0, 999)


def kept(indices: Indices) -> list[str]:
    return sorted(path.name for path in indices.folder.iterdir())


def test_what_was_used_least_recently_goes_first(tmp_path):
    index = make_index()
    store.save(index, tmp_path / "one")
    size = sum(path.stat().st_size for path in (tmp_path / "one").iterdir())
    indices = Indices(tmp_path / "indices", max_bytes=3 * size + size // 2)
    for age, key in enumerate("abc"):
        indices.put(key, index)
        os.utime(indices.path(key) / store.MANIFEST, (age, age))
    assert_equal_index(index, indices.get("a"))
    indices.put("d", index)
    assert kept(indices) == ["a", "c", "d"] and indices.get("b") is None
    reader = indices.get("c")
    Indices(indices.folder, max_bytes=0).put("e", index)
    assert kept(indices) == []
    assert_equal_index(index, reader)  # who reads it reads on


def test_two_may_make_room_at_once(tmp_path):
    """Each finds some gone that it was about to take away."""
    index, few = make_index(), Indices(tmp_path, max_bytes=0)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda number: few.put(str(number), index), range(40)))
    assert kept(few) == []


def test_a_damaged_index_is_told_and_made_anew(tmp_path):
    indices = Indices(tmp_path)
    indices.put("a", make_index())
    (indices.path("a") / store.MANIFEST).write_text("{")
    with pytest.warns(UserWarning, match="damaged, not JSON; it is made anew"):
        assert indices.get("a") is None
    (indices.path("a") / store.MANIFEST).write_text(json.dumps({"format": store.FORMAT}))
    indices.put("a", make_index())
    assert indices.get("a") is not None


def test_a_video_is_asked_with_the_recipe_it_was_added_with(tmp_path):
    library = Library.make(tmp_path / "library")
    library.indices.put("k", make_index())
    for name in ("b.mp4", "deep/a.mp4"):
        library.add(name, ENTRY)
    again = Library.make(tmp_path / "library")
    assert again.names() == ["b.mp4", "deep/a.mp4"] and again.entry("deep/a.mp4") == ENTRY
    recipe = again.load("deep/a.mp4").spec.recipe
    assert recipe == {**ENTRY.recipe, **make_index().spec.recipe}
    assert "did you mean 'b.mp4'" in error_of(again.entry, "b.mp")
    assert cache_in(tmp_path / "library", 0).get("k") and not cache_in(tmp_path, 0).get("k")
    cache_in(tmp_path / "library", 0).put("l", make_index())
    assert kept(library.indices) == ["k", "l"]  # a library is no cache: nothing goes


def test_a_damaged_library_is_named(tmp_path):
    library = Library.make(tmp_path / "library")
    library.add("a.mp4", ENTRY)
    (tmp_path / "library" / "videos" / "a.mp4.json").write_text('{"key": "k"}')
    assert "a.mp4.json: damaged, not an entry" in error_of(library.entry, "a.mp4")
    (tmp_path / "library" / "library.json").write_text('{"format": "x2l-library", "format_version": 2}')
    assert "library.json: expected {'format': 'x2l-library', 'format_version': 1}" in error_of(
        Library, tmp_path / "library"
    )
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(X2LError, match="exists and is not an x2l library"):
        Library.make(tmp_path / "other")
