"""Owns a user's own images: a folder of image files per class."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np

from pynn.data.dataset import DataError, Dataset, reading
from pynn.data.splits import assemble, class_indices

__all__ = ["MAX_SIDE", "load_image_folder", "read_image", "require_pillow"]

MAX_SIDE = 1 << 14  # of an image that is resized, in pixels


def load_image_folder(
    path: str | os.PathLike,
    *,
    image_size: int | tuple[int, int] | None = None,
    grayscale: bool = False,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    seed: int = 0,
) -> Dataset:
    """Images uint8 (N, 3, H, W), or (N, 1, H, W) if `grayscale`; each sub-folder is a class and names it.

    Sub-folders train, and val or test or both, hold such class folders each and are respected; what is missing is
    split off the training part: `val_fraction` and `test_fraction` of it, each class alike, seeded with `seed`.
    Images are turned as their EXIF orientation says and resized (bilinear) to `image_size`, an int or (H, W);
    without it all must have one size. Hidden files are passed over. Needs Pillow.

    Raises DataError naming the file that is no image or has another size.
    """
    require_pillow()
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if size is not None and (len(size) != 2 or not all(isinstance(n, int) and 0 < n <= MAX_SIDE for n in size)):
        raise ValueError(f"image_size must be an int or (H, W), each from 1 to {MAX_SIDE}, got {image_size!r}")
    root = Path(path)
    folders = [child.name for child in _children(root) if child.is_dir()]
    parts_given = [part for part in ("train", "val", "test") if part in folders]
    split = len(folders) == len(parts_given) > 1 and "train" in folders
    roots: dict[str, Path] = {part: root / part for part in parts_given} if split else {"train": root}
    files = {part: _files(folder) for part, folder in roots.items()}
    for part, found in files.items():
        if not found:
            raise DataError(f"{roots[part]}: expected a sub-folder of images for each class, found no image")
    x = {}
    for part, found in files.items():
        x[part] = _read_all(found, size, grayscale, resize=image_size is not None)
        size = size or x[part].shape[2:]
    labels = {part: np.array([file.parent.name for file in found]) for part, found in files.items()}
    y, classes = class_indices(labels, str(path))
    parts = {part: (x[part], y[part]) for part in x}
    return assemble(root.name, parts, classes, (val_fraction, test_fraction), seed, citation=str(path))


def _children(folder: Path) -> list[Path]:
    with reading(folder, "folder"):
        return sorted(child for child in folder.iterdir() if not child.name.startswith("."))


def _files(root: Path) -> list[Path]:
    """The image files below `root`, by class."""
    files = []
    for folder in _children(root):
        if not folder.is_dir():
            raise DataError(f"{folder}: expected images in a sub-folder for each class, found a file beside these")
        for file in _children(folder):
            if not file.is_file():
                raise DataError(f"{file}: expected image files in the class folder {folder.name}, found a folder")
            files.append(file)
    return files


def _read_all(files: list[Path], size: tuple[int, int] | None, grayscale: bool, *, resize: bool) -> np.ndarray:
    first = read_image(files[0], size, grayscale, resize=resize)
    images = np.empty((len(files), *first.shape), np.uint8)
    for index, file in enumerate(files):
        images[index] = read_image(file, first.shape[1:], grayscale, resize=resize)
    return images


def require_pillow() -> None:
    """Raises ImportError, saying how to get it, where Pillow is missing."""
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise ImportError('reading images needs Pillow: pip install "pynn-cnn[images]"') from error


def read_image(file: Path, size: tuple[int, int] | None, grayscale: bool, *, resize: bool = True) -> np.ndarray:
    """One image as uint8 (3, H, W), or (1, H, W) if `grayscale`, resized to `size` = (H, W) where given.

    Raises DataError where it is no image or, unless `resize`, has another size than `size`.
    """
    from PIL import Image, ImageOps

    with reading(file, "image"), warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(file) as image:
            if image.mode in ("I", "F") or image.mode.startswith("I;"):
                raise ValueError(f"its pixels have more than 8 bits (mode {image.mode}): convert it")
            upright = ImageOps.exif_transpose(image)
            found = (upright.height, upright.width)
            if size is not None and found != size and not resize:
                raise ValueError(
                    f"expected {size[0]}×{size[1]} pixels as in the first image, got {found[0]}×{found[1]}: "
                    "give image_size"
                )
            pixels = upright.convert("L" if grayscale else "RGB")
            if size is not None and found != size:
                pixels = pixels.resize(size[::-1], Image.Resampling.BILINEAR)
            array = np.asarray(pixels)
    return array[np.newaxis] if grayscale else array.transpose(2, 0, 1)
