"""Owns reading one image file: which formats, and how it becomes bytes of grey or colour.

Transparent parts lie on white, the paper of a drawing. Of animations the first frame is taken.
"""

from __future__ import annotations

import io
import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pynn.data.dataset import reading
from pynn.data.junk import is_junk
from pynn.data.streams import MAX_DEFLATE_RATIO, open_regular, read_at_most

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["MAX_SIDE", "image_files", "image_size_of", "read_image", "require_pillow"]

MAX_SIDE = 1 << 14  # of an image that is resized, in pixels
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "TIFF")  # of others, EPS starts an external program
_MAX_BYTES = 1 << 29
_MAX_SCANS = 100  # of a progressive JPEG, of which each costs a pass over all pixels; common are ten
_MAX_RATIO = 4096  # bytes that LZW, the densest of the other compressions, makes of one
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")  # of a segment: not stuffing, restart or start of image
_TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange height and width


def require_pillow() -> None:
    """Raises ImportError, saying how to get it, where Pillow is missing."""
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise ImportError('reading images needs Pillow: pip install "pynn-cnn[images]"') from error


def read_image(file: Path, size: tuple[int, int] | None, grayscale: bool, *, resize: bool = True) -> np.ndarray:
    """One image as uint8 (3, H, W), or (1, H, W) if `grayscale`, resized to `size` = (H, W) where given, bilinear.

    PNG, JPEG, BMP, GIF, WebP, PPM and TIFF of 8 bits a channel, in any colour mode; turned as the EXIF orientation
    says, transparent parts on white. Raises DataError where it is no such image or, unless `resize`, has another
    size than `size`.
    """
    from PIL import Image, ImageOps

    with _opened(file) as image:
        if image.mode in ("I", "F") or image.mode.startswith("I;"):
            raise ValueError(f"its pixels have more than 8 bits (mode {image.mode}): convert it")
        upright = ImageOps.exif_transpose(image)
        found = (upright.height, upright.width)
        if size is not None and found != size and not resize:
            raise ValueError(
                f"expected {size[0]}×{size[1]} pixels as in the first image, got {found[0]}×{found[1]}: "
                "give image_size"
            )
        pixels = _on_white(upright).convert("L" if grayscale else "RGB")
        if size is not None and found != size:
            pixels = pixels.resize(size[::-1], Image.Resampling.BILINEAR)
        array = np.asarray(pixels)
    return array[np.newaxis] if grayscale else array.transpose(2, 0, 1)


def image_size_of(file: Path) -> tuple[int, int]:
    """(H, W) of an image as `read_image` turns it, from the file's header alone; DataError where it is none."""
    from PIL import Image

    with _opened(file) as image:
        turned = Image.Image.getexif(image).get(0x0112) in _TURNED  # that of PNG decodes the image first
        return (image.width, image.height) if turned else (image.height, image.width)


def image_files(path: Path) -> list[Path]:
    """The files at and below `path` in the order of their names, but for hidden ones and those of the system.

    A folder that links lead to again is read once. Raises DataError where a folder cannot be read.
    """
    if not os.path.isdir(path):
        return [path]
    files, visited = [], set()

    def walk(folder: Path) -> None:
        if (real := os.path.realpath(folder)) in visited:
            return
        visited.add(real)
        for child in children(folder):
            if child.is_dir():
                walk(child)
            else:
                files.append(child)

    with reading(path, "folder"):
        walk(path)
    return sorted(files)


def children(folder: Path) -> list[Path]:
    """What is in a folder, by name, but for hidden files and those of the system."""
    with reading(folder, "folder"):
        return sorted(child for child in folder.iterdir() if not is_junk(child.name))


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """The image in a file, not decoded yet; whatever goes wrong with it is a DataError that names it."""
    from PIL import Image, UnidentifiedImageError

    # What Pillow logs of damage would reach stderr where nobody listens; the DataError says it.
    if not (logger := logging.getLogger("PIL")).handlers:
        logger.addHandler(logging.NullHandler())
    with reading(file, "image"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's about damaged metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with open_regular(file) as stream:
            content = bytes(read_at_most(stream, _MAX_BYTES + 1))
        if len(content) > _MAX_BYTES:
            raise ValueError(f"it has more than {_MAX_BYTES:,} bytes")
        try:
            image = Image.open(io.BytesIO(content), formats=_FORMATS)
        except UnidentifiedImageError:
            raise ValueError(f"it is none of {', '.join(_FORMATS)}: convert it or take it away") from None
        if image.format in ("JPEG", "MPO") and _scans(content) > _MAX_SCANS:
            raise ValueError(f"it has more than {_MAX_SCANS} scans")
        with image:
            _require_pixels(image, len(content))
            yield image


def _scans(content: bytes) -> int:
    """The scans of a JPEG, up to the end of its image: behind that, cameras put previews and films."""
    scans, at = 0, 2
    while (match := _MARKER.search(content, at)) and match[1] != b"\xd9" and scans <= _MAX_SCANS:
        scans += match[1] == b"\xda"
        at = match.end() + int.from_bytes(content[match.end() : match.end() + 2], "big")  # over its segment
    return scans


def _require_pixels(image: Image.Image, size: int) -> None:
    """Refuses a header that claims more pixels than `size` bytes can hold, before memory is taken for them."""
    least = image.width * image.height * len(image.getbands())
    if image.mode in ("1", "L", "P"):
        least //= 8  # a pixel may be a bit
    decoders = {tile[0] for tile in getattr(image, "tile", [])}
    ratio = 1 if decoders == {"raw"} else MAX_DEFLATE_RATIO if decoders == {"zip"} else _MAX_RATIO
    if image.format != "WEBP" and least > size * ratio:  # of one colour, WebP needs no bytes for each pixel
        raise ValueError(f"it claims {image.width}×{image.height} pixels, more than its {size:,} bytes can hold")


def _on_white(image: Image.Image) -> Image.Image:
    """`image`, or where parts of it are transparent, in colour on white."""
    from PIL import Image

    if image.mode not in ("LA", "La", "PA", "RGBA", "RGBa") and "transparency" not in image.info:
        return image
    rgba = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white
