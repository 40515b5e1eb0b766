"""Small real video files in which every frame shows its own index, as eight black or white blocks."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT = 96, 64
FPS = 25
REALTIME = {"deadline": "realtime", "cpu-used": "8"}
"""Options that make the VP8 and VP9 encoders fast."""

_IDENTITY = np.array([1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30], ">i4")
_MATRICES = {
    90: np.array([0, -(1 << 16), 0, 1 << 16, 0, 0, 0, 0, 1 << 30], ">i4"),
    180: np.array([-(1 << 16), 0, 0, 0, -(1 << 16), 0, 0, 0, 1 << 30], ">i4"),
    270: np.array([0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30], ">i4"),
}
"""Display matrices of an mp4 by the degrees that the stored picture is turned counter-clockwise."""


def picture(index: int) -> np.ndarray:
    """RGB [64, 96, 3]: block k (2 rows of 4) is white where bit k of `index` is set."""
    bits = np.array([(index >> k) & 1 for k in range(8)]).reshape(2, 4)
    return np.repeat(np.kron(bits, np.ones((32, 24)))[..., None] * 255, 3, axis=2).astype(np.uint8)


def shown_index(frame: np.ndarray) -> int:
    """The index that a decoded frame shows."""
    blocks = frame.reshape(2, 32, 4, 24, 3).mean(axis=(1, 3, 4)).ravel() > 128
    return int((blocks << np.arange(8)).sum())


def write_video(
    path: Path,
    codec: str = "libx264",
    num_frames: int = 60,
    times_ms: list[int] | None = None,
    gop: int = 12,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    seed: int | None = None,
) -> Path:
    """A clip at 25 fps or, with `times_ms`, of variable frame rate. With `seed`, noise makes it large."""
    noise = None if seed is None else np.random.default_rng(seed)
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=FPS, options=options or {})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = WIDTH, HEIGHT, "yuv420p", gop
        time_base = Fraction(1, 1000) if times_ms else Fraction(1, FPS)
        stream.codec_context.time_base, stream.codec_context.thread_count = time_base, 1
        for index in range(num_frames):
            pixels = picture(index)
            if noise is not None:
                pixels = np.clip(pixels + noise.integers(-60, 61, pixels.shape), 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = (
                times_ms[index] if times_ms else index,
                stream.codec_context.time_base,
            )
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def remuxed(
    source: Path,
    path: Path,
    changed: dict[int, dict[str, int]] | None = None,
    data: dict[int, bytes | None] | None = None,
    title: str = "",
) -> Path:
    """The same packets in another file; some (by stored order) `changed`, with other data, or left out."""
    with av.open(str(source)) as file, av.open(str(path), "w") as copy:
        stream = copy.add_stream_from_template(file.streams.video[0])
        copy.metadata["title"] = stream.metadata["title"] = title
        for place, packet in enumerate(packet for packet in file.demux(video=0) if packet.size):
            if (content := (data or {}).get(place, bytes(packet))) is None:
                continue
            new = av.Packet(content)
            for name in ("pts", "dts", "duration", "time_base", "is_keyframe"):
                setattr(new, name, (changed or {}).get(place, {}).get(name, getattr(packet, name)))
            new.stream = stream
            copy.mux(new)
    return path


def write_audio(path: Path) -> Path:
    """A second of silence, without a picture."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=16_000, layout="mono")
        for index in range(16):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 16_000, index * 1024
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def rotated(source: Path, path: Path, degrees: int) -> Path:
    """A copy of an mp4 whose track is to be shown turned by `degrees` counter-clockwise."""
    data = source.read_bytes()
    # The first matrix is the movie's, the second the track's.
    track = data.index(_IDENTITY.tobytes(), data.index(b"tkhd"))
    path.write_bytes(data[:track] + _MATRICES[degrees].tobytes() + data[track + 36 :])
    return path


def trimmed(source: Path, path: Path, num_frames: int) -> Path:
    """A copy of an mp4 (60 frames) whose edit list hides its first `num_frames` frames."""
    data = bytearray(source.read_bytes())
    edit = data.index(b"elst") + 12  # behind the name, the flags and the count
    start = int.from_bytes(data[edit + 4 : edit + 8], "big") + num_frames * 512  # 12,800 units a second
    data[edit : edit + 8] = (2400 - num_frames * 40).to_bytes(4, "big") + start.to_bytes(4, "big")
    path.write_bytes(data)
    return path


def cut_short(source: Path, path: Path, share: float = 0.6) -> Path:
    """A copy that lacks the end of the file."""
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def scratched(source: Path, path: Path, packets: range) -> Path:
    """A copy in which some packets (in stored order) are overwritten with ones."""
    data = bytearray(source.read_bytes())
    for place in packets:
        start, size, _ = stored_packets(source)[place]
        data[start : start + size] = b"\xff" * size
    path.write_bytes(data)
    return path


def flipped(source: Path, path: Path, packet: int) -> Path:
    """A copy in which a packet (in stored order) has flipped bits; FFmpeg sees most of these, not all."""
    data = bytearray(source.read_bytes())
    start, size, _ = stored_packets(source)[packet]
    for place in range(start + size // 4, start + size, 8):
        data[place] ^= 4
    path.write_bytes(data)
    return path


def stored_packets(source: Path) -> list[tuple[int, int, int]]:
    """Place in the file, bytes and timestamp of each video packet, in stored order."""
    with av.open(str(source)) as file:
        return [(packet.pos, packet.size, packet.pts) for packet in file.demux(video=0) if packet.size]
