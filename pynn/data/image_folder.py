"""Owns a user's own images: a folder of image files per class."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pynn.data.dataset import DataError, Dataset, reading
from pynn.data.images import MAX_SIDE, children, read_image, require_pillow
from pynn.data.splits import check_split, class_indices, held_out
from pynn.text import clean
from pynn.values import is_integer

__all__ = ["ImageFolder", "as_size", "load_image_folder"]

_PARTS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


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

    Sub-folders train, and val (or valid, validation) or test or both, hold such class folders each and are
    respected; what is missing is split off the training part: `val_fraction` and `test_fraction` of it, each class
    alike, seeded with `seed`. Images are turned as their EXIF orientation says, laid on white where they are
    transparent, and resized (bilinear) to `image_size`, an int or (H, W); without it all must have one size.
    Hidden files and those of the system (Thumbs.db, desktop.ini, __MACOSX) are passed over. Needs Pillow.

    Raises DataError naming the file that is no image or has another size, an empty class folder, classes that
    differ by case alone or that the training part lacks, and folders that are neither part nor class.
    """
    require_pillow()
    size = as_size(image_size)
    check_split((val_fraction, test_fraction), seed)
    folder = ImageFolder.scan(path)
    rows = held_out(folder.labels, (val_fraction, test_fraction), seed)
    size = size or read_image(folder.files["train"][0], None, grayscale).shape[1:]
    parts = []
    with reading(path, "folder"):
        for source, at in (rows[part] for part in ("train", "val", "test")):
            x = np.empty((len(at), 1 if grayscale else 3, *size), np.uint8)
            for index, row in enumerate(at):
                x[index] = read_image(folder.files[source][row], size, grayscale, resize=image_size is not None)
            parts.append((x, folder.labels[source][at]))
    name = Path(os.path.abspath(path)).name
    return Dataset.from_parts(
        name, *parts, classes=folder.classes, origin="real", citation=str(path), value_range=(0.0, 255.0)
    )


@dataclass(frozen=True)
class ImageFolder:
    """The image files below a folder, of each part that it has, with their classes; none is opened yet."""

    files: dict[str, list[Path]]
    labels: dict[str, np.ndarray]
    classes: tuple[str, ...]

    @classmethod
    def scan(cls, path: str | os.PathLike) -> ImageFolder:
        """What is at `path`; raises DataError as `load_image_folder` does."""
        root = Path(path)
        files = {part: _files(folder) for part, folder in _part_folders(root).items()}
        labels = {
            part: (f"{part} folder", np.array([file.parent.name for file in found]))
            for part, found in files.items()
        }
        return cls(files, *class_indices(labels, path, folders=True))


def as_size(image_size) -> tuple[int, int] | None:
    """`image_size` as (H, W) or None; ValueError where it is neither an int nor two, in range."""
    if image_size is None:
        return None
    size = (image_size, image_size) if is_integer(image_size) else image_size
    if (
        not isinstance(size, tuple | list)
        or len(size) != 2
        or not all(is_integer(n) and 0 < n <= MAX_SIDE for n in size)
    ):
        raise ValueError(
            f"image_size must be an int or (H, W), each from 1 to {MAX_SIDE}, got {clean(repr(image_size), 60)}"
        )
    return int(size[0]), int(size[1])


def _part_folders(root: Path) -> dict[str, Path]:
    """The folders of the parts, or `root` as the training part where its folders are the classes."""
    found: dict[str, Path] = {}
    others = []
    for child in children(root):
        part = _PARTS.get(child.name.casefold()) if child.is_dir() else None
        if part is None:
            others.append(child)
        elif part in found:
            raise DataError(
                f"{clean(root)}: {found[part].name}/ and {child.name}/ are both the {part} part: join them"
            )
        else:
            found[part] = child
    nested = [part for part, folder in found.items() if any(child.is_dir() for child in children(folder))]
    if not nested and (others or len(found) < 2 or "train" not in found):
        return {"train": root}  # "train" may be the name of a class
    if "train" not in found:
        raise DataError(f"{clean(root)}: expected train/ beside {found[nested[0]].name}/, found none: name it so")
    if others:
        raise DataError(
            f"{clean(root)}: expected train/, val/ and test/ alone, found {clean(others[0].name, 40)} beside "
            "them: move or remove it"
        )
    return found


def _files(root: Path) -> list[Path]:
    """The image files below `root`, by class."""
    files = []
    for folder in children(root):
        if not folder.is_dir():
            raise DataError(
                f"{clean(folder)}: expected images in a sub-folder for each class, found a file beside these"
            )
        of_class = children(folder)
        if not of_class:
            raise DataError(f"{clean(folder)}: the class folder is empty: add images of it or remove the folder")
        for file in of_class:
            if file.is_dir():
                raise DataError(
                    f"{clean(file)}: expected image files in the class folder {clean(folder.name, 40)}, "
                    "found a folder"
                )
        files += of_class
    if not files:
        raise DataError(f"{clean(root)}: expected a sub-folder of images for each class, found no image")
    return files
