"""Full disks, other writers, readers meanwhile, manifests of any contents: one line, and nothing is lost."""

import json
import subprocess
import threading
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from indices import assert_equal_index, error_of, make_chunk, make_index

from x2l.storage import manifest, store
from x2l.storage.growing import growing
from x2l.storage.library import Indices
from x2l.types import X2LError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def paths_in(body, path=()):
    """Every place in plain data."""
    yield path
    items = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    for key, value in items:
        yield from paths_in(value, (*path, key))


def put(body, path, value):
    for key in path[:-1]:
        body = body[key]
    body[path[-1]] = value


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved index, and what its manifest says."""
    folder = tmp_path_factory.mktemp("random") / "index"
    store.save(make_index(num_chunks=1), folder)
    return folder, (folder / store.MANIFEST).read_text()


@pytest.mark.parametrize("num", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_manifest_of_any_contents_is_one_line(folder, num):
    """Signed: whoever wrote it knows how the digest is made."""
    folder, text = folder

    @settings(max_examples=num)
    @given(data=st.data(), value=JSON, is_signed=st.booleans(), version=st.sampled_from([2, 3, 4]))
    def loads_or_says_why(data, value, is_signed, version):
        body = json.loads(text) | {"format_version": version}
        put(body, data.draw(st.sampled_from(list(paths_in(body))[1:])), value)
        if is_signed:
            body.pop("digest", None)
            body["digest"] = manifest._digest(body)
        (folder / store.MANIFEST).write_text(json.dumps(body))
        try:
            store.load(folder)
        except X2LError as error:
            assert str(folder) in str(error) and "\n" not in str(error)

    loads_or_says_why()


def test_an_index_of_a_later_format_says_so(tmp_path):
    store.save(make_index(), tmp_path / "index")
    path = tmp_path / "index" / store.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 5}))
    message = error_of(store.load, tmp_path / "index")
    assert message == f"{path}: format_version 5, of a later x2l, expected one of (2, 3, 4)"


def test_a_reader_finds_a_whole_index_while_writers_replace_it(tmp_path):
    """Writers wait for each other; the last one's is there."""
    indices = [make_index(num_chunks=n) for n in (1, 2)]
    store.save(indices[0], tmp_path / "index")
    writers = [
        threading.Thread(target=lambda i=i: [store.save(indices[i], tmp_path / "index") for _ in range(25)])
        for i in (0, 1)
    ]
    for writer in writers:
        writer.start()
    num_read = 0
    while any(writer.is_alive() for writer in writers):
        index = store.load(tmp_path / "index")
        assert_equal_index(indices[len(index.chunks) - 1], index)
        num_read += 1
    assert num_read > 5
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_a_reader_of_an_index_that_grows_sees_whole_chunks(tmp_path):
    index, numbers = make_index(num_chunks=1), []

    def grow():
        with growing(tmp_path / "index", index.spec, index.prefix) as grown:
            for i in range(40):
                grown.append(make_chunk(i, "float32"))
            grown.finish()

    writer = threading.Thread(target=grow)
    writer.start()
    while writer.is_alive():
        try:
            seen = store.load(tmp_path / "index")
        except X2LError as error:
            assert not numbers and ("no whole chunk yet" in str(error) or "cannot be read" in str(error))
            continue
        numbers.append(len(seen.chunks))
        assert [chunk.index for chunk in seen.chunks] == list(range(len(seen.chunks)))
        seen.chunks[-1].levels[2].materialise()
    assert numbers == sorted(numbers) and len(store.load(tmp_path / "index").chunks) == 40


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte, where the system lets us have one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a file system")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_is_one_line_and_what_was_there_stays(small_disk):
    small, large = make_index(num_chunks=2), make_index(num_chunks=1)
    features = {"mine": {"a": torch.randn(400_000)}}
    large = replace(large, chunks=(replace(large.chunks[0], features=features),))
    store.save(small, small_disk / "index")
    assert "cannot be written" in error_of(store.save, large, small_disk / "index")
    assert_equal_index(small, store.load(small_disk / "index"))
    assert [path.name for path in small_disk.iterdir()] == ["index"]
    with growing(small_disk / "grown", small.spec, small.prefix) as grown:
        grown.append(small.chunks[0])
        assert "cannot be written" in error_of(grown.append, replace(large.chunks[0], index=1))
    with growing(small_disk / "grown", small.spec, small.prefix) as grown:
        assert len(grown.chunks) == 1  # with room again, it goes on
        grown.append(small.chunks[1])
        grown.finish()
    assert_equal_index(small, store.load(small_disk / "grown"))
    assert "cannot be written" in error_of(Indices(small_disk / "indices").put, "k", large)


def test_a_disk_that_is_read_only_is_one_line(small_disk):
    index = make_index()
    store.save(index, small_disk / "index")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for name in ("index", "new"):
        message = error_of(store.save, index, small_disk / name)
        assert f"{name}: cannot be written, Read-only file system" in message
    with (
        pytest.raises(X2LError, match="grown: cannot be made a folder, Read-only"),
        growing(small_disk / "grown", index.spec, index.prefix),
    ):
        pass
    assert_equal_index(index, store.load(small_disk / "index"))
    indices = Indices(small_disk)
    assert_equal_index(index, indices.get("index"))
