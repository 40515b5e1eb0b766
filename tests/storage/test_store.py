"""An index on disk: bit-identical, shared tensors once, atomic, and clear about what is wrong."""

import hashlib
import json
import os
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from indices import (
    HEAD_DIM,
    KV_HEADS,
    LAYERS,
    assert_equal_index,
    assert_equal_kv,
    bits,
    error_of,
    make_index,
    random_kv,
)
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from xxhash import xxh3_64_hexdigest

from x2l.storage import store
from x2l.types import KV, Geometry, VideoIndex

DTYPES = ["float32", "bfloat16", "float16"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_reloaded_index_is_bit_identical(tmp_path, dtype):
    index = make_index(dtype)
    store.save(index, tmp_path / "index")
    assert_equal_index(index, store.load(tmp_path / "index"))
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == [store.MANIFEST, store.TENSORS]


@given(
    tokens=st.integers(0, 9),
    dtype=st.sampled_from(DTYPES),
    axes=st.sampled_from([1, 3]),
    per_head=st.booleans(),
    rotated=st.booleans(),
    special=st.sampled_from([0.0, -0.0, float("nan"), float("inf")]),
)
def test_any_kv_survives(tmp_path_factory, tokens, dtype, axes, per_head, rotated, special):
    kv = random_kv(tokens, dtype)
    kv.keys[..., :1, :1] = special
    positions = torch.randint(0, 99, (axes, LAYERS, KV_HEADS, tokens) if per_head else (axes, 1, 1, tokens))
    kv = replace(kv, positions=positions, rotated=rotated)
    folder = tmp_path_factory.mktemp("any") / "index"
    store.save(replace(make_index(dtype), prefix=kv), folder)
    assert_equal_kv(kv, store.load(folder).prefix)


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int16", "int32", "uint64", "float64", "float8_e4m3fn", "complex64"]
)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_features_of_any_type_and_shape_survive(tmp_path, dtype, shape):
    feature = torch.randint(0, 2, shape).to(getattr(torch, dtype))
    index = make_index(num_chunks=1)
    index = replace(index, chunks=(replace(index.chunks[0], features={"mine": {"a": feature}}),))
    store.save(index, tmp_path / "index")
    loaded = store.load(tmp_path / "index").chunks[0].features["mine"]["a"]
    assert loaded.dtype == feature.dtype and loaded.shape == feature.shape
    assert torch.equal(bits(loaded.flatten()), bits(feature.flatten()))


def test_a_single_number_of_many_survives(tmp_path):
    """It counts as contiguous, whatever its stride."""
    index = make_index(num_chunks=1)
    features = {"mine": {"a": torch.arange(16)[8::8], "b": torch.arange(16.0)[3]}}
    store.save(replace(index, chunks=(replace(index.chunks[0], features=features),)), tmp_path / "index")
    loaded = store.load(tmp_path / "index").chunks[0].features["mine"]
    assert loaded["a"].tolist() == [8] and loaded["b"].tolist() == 3.0


def test_views_of_one_buffer_and_transposed_tensors_survive(tmp_path):
    buffer = torch.randn(LAYERS, KV_HEADS, 30, HEAD_DIM)
    positions = torch.arange(30).view(1, 1, 1, -1)
    pieces = [
        KV(buffer[..., a:b, :], buffer.flip(0)[..., a:b, :], positions[..., a:b])
        for a, b in [(0, 5), (3, 13), (13, 30)]
    ]
    transposed = KV(
        torch.randn(LAYERS, 8, KV_HEADS, HEAD_DIM).transpose(1, 2), random_kv(8).values, positions[..., :8]
    )
    whole = KV(buffer, buffer.view(buffer.shape), positions)
    index = make_index()
    levels = [{2: pieces[0], 32: pieces[1]}, {2: pieces[2], 32: transposed}, {2: whole, 32: whole}]
    chunks = [replace(chunk, levels=level) for chunk, level in zip(index.chunks, levels, strict=True)]
    index = replace(index, chunks=tuple(chunks))
    store.save(index, tmp_path / "index")
    assert_equal_index(index, store.load(tmp_path / "index"))


def test_a_kv_under_two_ratios_is_stored_once(tmp_path):
    shared = make_index(num_chunks=1)
    level = shared.chunks[0].levels[2]
    copy = KV(level.keys.clone(), level.values.clone(), level.positions)
    apart = replace(shared, chunks=(replace(shared.chunks[0], levels={2: level, 32: copy}),))
    store.save(shared, tmp_path / "shared")
    store.save(apart, tmp_path / "apart")
    saved_bytes = [(tmp_path / name / store.TENSORS).stat().st_size for name in ("shared", "apart")]
    assert saved_bytes[1] - saved_bytes[0] >= level.num_bytes
    loaded = store.load(tmp_path / "shared")
    assert loaded.chunks[0].levels[2] is loaded.chunks[0].levels[32]
    assert loaded.num_bytes == shared.num_bytes < store.load(tmp_path / "apart").num_bytes


@dataclass(frozen=True)
class Halved:
    """A level that is packed in fp16 until it is used."""

    packed: KV
    num_tokens: int = 8
    num_bytes: int = 0

    def materialise(self) -> KV:
        return self.packed.to(torch.float32)


def test_packed_levels_are_stored_as_what_they_become(tmp_path):
    index = make_index(num_chunks=1)
    packed = Halved(random_kv(8, "float16"))
    index = replace(index, chunks=(replace(index.chunks[0], levels={2: packed, 32: packed}),))
    store.save(index, tmp_path / "index")
    chunk = store.load(tmp_path / "index").chunks[0]
    assert_equal_kv(packed.materialise(), chunk.levels[2].materialise())
    assert chunk.levels[2] is chunk.levels[32]


def test_levels_are_mapped_not_read(tmp_path):
    store.save(make_index(), tmp_path / "index")
    level = store.load(tmp_path / "index").chunks[1].levels[2]
    assert isinstance(level, store.StoredLevel) and level.num_tokens == 8
    one, again = level.materialise(), level.materialise()
    assert one.keys.data_ptr() == again.keys.data_ptr()


def test_a_loaded_index_can_be_saved_over_itself(tmp_path):
    index = make_index()
    store.save(index, tmp_path / "index")
    store.save(store.load(tmp_path / "index"), tmp_path / "index")
    assert_equal_index(index, store.load(tmp_path / "index"))


@pytest.mark.parametrize(
    "failure", [OSError(28, "No space left on device"), SafetensorError("No space left on device")]
)
def test_a_failed_save_leaves_the_old_index_and_nothing_else(tmp_path, monkeypatch, failure):
    index = make_index()
    store.save(index, tmp_path / "index")

    def disk_full(*args, **kwargs):
        raise failure

    monkeypatch.setattr("x2l.storage.held.save_file", disk_full)
    message = error_of(store.save, make_index(), tmp_path / "index")
    assert "No space left" in message
    assert_equal_index(index, store.load(tmp_path / "index"))
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_an_empty_directory_is_filled_and_parents_are_made(tmp_path):
    (tmp_path / "empty").mkdir()
    store.save(make_index(), tmp_path / "empty")
    store.save(make_index(), tmp_path / "a" / "b")
    assert store.load(tmp_path / "a" / "b").ratios == (2, 32)


@pytest.mark.parametrize("name", ["notes.txt", store.MANIFEST])
def test_other_peoples_directories_are_not_overwritten(tmp_path, name):
    (tmp_path / name).write_text('{"format": "something else"}')
    assert "not an x2l index" in error_of(store.save, make_index(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_index_with_a_file_of_the_user_in_it_is_not_overwritten(tmp_path):
    store.save(make_index(), tmp_path / "index")
    (tmp_path / "index" / "notes.txt").write_text("keep me")
    assert "will not overwrite" in error_of(store.save, make_index(), tmp_path / "index")
    assert "will not overwrite" in error_of(store.save, make_index(), tmp_path / "index" / "notes.txt")


@pytest.fixture
def saved(tmp_path):
    store.save(make_index(), tmp_path / "index")
    return tmp_path / "index"


def edit_manifest(folder, **changes):
    manifest = folder / store.MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))


def test_a_missing_index_is_named(tmp_path):
    assert "absent" in error_of(store.load, tmp_path / "absent")
    (tmp_path / "file").write_text("")
    assert "file" in error_of(store.load, tmp_path / "file")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"format": "other"}', "\x00\x01"])
def test_a_foreign_or_damaged_manifest_is_named(saved, text):
    (saved / store.MANIFEST).write_text(text)
    assert store.MANIFEST in error_of(store.load, saved)


def test_a_manifest_that_is_not_text_is_named(saved):
    (saved / store.MANIFEST).write_bytes(b"\xff\xfe\x80")
    assert store.MANIFEST in error_of(store.load, saved)


def test_another_format_version_is_named_with_both(saved):
    edit_manifest(saved, format_version=1)
    message = error_of(store.load, saved)
    assert "format_version 1" in message and "expected one of (2, 3, 4)" in message


def test_an_edited_or_swapped_manifest_is_found(saved, tmp_path):
    store.save(make_index(), tmp_path / "other")
    edit_manifest(saved, finished=False)
    assert store.MANIFEST in error_of(store.load, saved)
    edit_manifest(saved, finished=True)
    assert store.load(saved).ratios == (2, 32)
    edit_manifest(saved, segments=[])
    assert store.MANIFEST in error_of(store.load, saved)
    manifest = (tmp_path / "other" / store.MANIFEST).read_bytes()
    (saved / store.MANIFEST).write_bytes(manifest)
    assert f"{store.TENSORS}: damaged, its header" in error_of(store.load, saved)


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_a_truncated_tensor_file_is_named(saved, keep):
    path = saved / store.TENSORS
    path.write_bytes(path.read_bytes()[:keep])
    message = error_of(store.load, saved)
    assert store.TENSORS in message and "bytes, expected" in message


def test_a_missing_or_damaged_tensor_file_is_named(saved):
    path = saved / store.TENSORS
    data = path.read_bytes()
    path.write_bytes(b"\xff" * 16 + data[16:])
    assert store.TENSORS in error_of(store.load, saved)
    path.unlink()
    assert f"{store.TENSORS}: missing" in error_of(store.load, saved)


def everything(index: VideoIndex) -> None:
    """Reads all tensors, as answers do."""
    for chunk in index.chunks:
        for level in chunk.levels.values():
            level.materialise()


def flip(path, byte: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[byte] ^= 1 << bit
    path.write_bytes(data)


@given(
    place=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
    name=st.sampled_from([store.TENSORS, store.MANIFEST]),
)
def test_no_flipped_bit_is_answered_from(tmp_path_factory, place, bit, name):
    path = tmp_path_factory.mktemp("flipped") / "index" / name
    store.save(make_index(), path.parent)
    flip(path, int(place * path.stat().st_size), bit)
    assert str(path.parent) in error_of(lambda: everything(store.load(path.parent)))
    assert str(path.parent) in error_of(store.verify, path.parent)


def byte_of(path, tensor: torch.Tensor) -> int:
    return path.read_bytes().index(bits(tensor).numpy().tobytes())


def test_file_and_chunk_are_named_when_a_damaged_tensor_is_first_read(saved):
    index, path = store.load(saved), saved / store.TENSORS
    middle, last = (index.chunks[i].levels[2].materialise() for i in (1, 2))
    assert store.verify(saved)
    for place in [byte_of(path, tensor) for tensor in (middle.values, last.keys)]:
        flip(path, place)
    damaged = store.load(saved)
    damaged.chunks[1].levels[32].materialise()
    for _ in range(2):
        message = error_of(damaged.chunks[1].levels[2].materialise)
        assert str(path) in message and "chunk 1 2x values: damaged" in message
    message = error_of(store.verify, saved)
    assert str(path) in message and message.endswith("damaged: chunk 1 2x values, chunk 2 2x keys")
    everything(store.load(saved, verify=False))


def test_features_are_verified_where_they_are_read(saved):
    feature = store.load(saved).chunks[2].features["similarity{}"]["embedding"]
    flip(saved / store.TENSORS, byte_of(saved / store.TENSORS, feature))
    assert "chunk 2 oracle 0 embedding: damaged" in error_of(store.load, saved)
    store.load(saved, verify=False)


def as_earlier(folder, version):
    """The same index as that version of the format wrote it."""
    body = json.loads((folder / store.MANIFEST).read_text())
    with safe_open(folder / store.TENSORS, "pt") as file:
        holds = json.loads(file.metadata()["held"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    body = {"format": store.FORMAT, "format_version": version, "spec": body["spec"], **holds}
    if version == 2:
        del body[store.CHECKSUMS]
    decisive = {key: value for key, value in body.items() if key != store.CHECKSUMS}
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    save_file(tensors, folder / store.TENSORS, {"manifest": digest})
    body["tensors_bytes"] = (folder / store.TENSORS).stat().st_size
    if version == 3:
        front = (folder / store.TENSORS).read_bytes()
        body["tensors_header"] = xxh3_64_hexdigest(front[: 8 + int.from_bytes(front[:8], "little")])
    (folder / store.MANIFEST).write_text(json.dumps(body))


@pytest.mark.parametrize("version", [2, 3])
def test_an_index_of_an_earlier_version_is_read(tmp_path, version):
    """Version 2 has no checksums."""
    index = make_index()
    store.save(index, tmp_path / "index")
    as_earlier(tmp_path / "index", version)
    assert_equal_index(index, store.load(tmp_path / "index"))
    assert store.verify(tmp_path / "index") == (version == 3)
    edit_manifest(tmp_path / "index", prefix="chunk 0 2x")
    assert "not the manifest of this" in error_of(store.load, tmp_path / "index")


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_all_files_follow_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        store.save(make_index(), tmp_path / "index")
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "index").iterdir()}
    assert modes == {0o666 & ~umask}


@dataclass
class Asked:
    identity: str
    geometry: Geometry


def test_check_accepts_the_backbone_it_was_made_with():
    spec = make_index().spec
    store.check(make_index(), Asked(spec.backbone, spec.geometry))


def test_check_names_what_differs_and_both_values():
    spec = make_index().spec
    message = error_of(store.check, make_index(), Asked("other@4567", spec.geometry))
    assert "'tiny@0123'" in message and "'other@4567'" in message
    geometry = replace(spec.geometry, num_layers=28, dtype="bfloat16")
    message = error_of(store.check, make_index(), Asked(spec.backbone, geometry))
    assert "num_layers 2, not 28" in message and "dtype 'float32', not 'bfloat16'" in message
    assert "head_dim" not in message
