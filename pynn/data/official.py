"""Owns what tells the official files of a data set from copies of other content."""

from __future__ import annotations

import hashlib
from typing import TypedDict

import numpy as np

__all__ = ["is_recompressed", "provenance", "sha256"]

_LUMINANCE = np.array([0.299, 0.587, 0.114])  # of R, G, B, as JPEG has it
_IMAGES = 1000  # looked at


class Provenance(TypedDict):
    """What a Dataset says of where it is from."""

    name: str
    origin: str
    note: str


def provenance(name: str, official: bool, images: np.ndarray | None = None) -> Provenance:
    """`name`, `origin` and `note` of a data set that was read from files of its own.

    official : whether they are those that the set's authors gave out. images : (N, C, H, W) uint8; whether they
    were stored as JPEG in between is told.
    """
    if official:
        return {"name": name, "origin": "real", "note": ""}
    how = "recompressed as JPEG" if images is not None and is_recompressed(images) else "not the official files"
    note = f"The checksums of the files are not those of the official {name}; figures on the two need not agree."
    return {"name": f"{name}, {how}", "origin": "altered", "note": note}


def sha256(*contents: bytes | np.ndarray) -> str:
    """The SHA-256 of bytes and of arrays' elements, in C order, one after the other."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content if isinstance(content, bytes) else content.tobytes())
    return digest.hexdigest()


def is_recompressed(images: np.ndarray) -> bool:
    """Whether images (N, C, H, W), H, W ≥ 16, uint8, grey or RGB, were stored as JPEG on their way.

    JPEG rounds most of the fine detail, the high frequencies of the cosine transform of each 8×8 block, to zero.
    Blocks that are cut elsewhere have no more such zeros than images that never were JPEG. So their share on the
    grid of JPEG is compared with that on one four pixels off: up to quality 95 it is more than twice as large.
    """
    x = images[:_IMAGES].astype(np.float64)
    luminance = np.tensordot(_LUMINANCE, x, ([0], [1])) if x.shape[1] == 3 else x[:, 0]
    on_grid, off_grid = (_share_of_zeros(luminance[:, start:, start:]) for start in (0, 4))
    return on_grid > 2 * off_grid


def _share_of_zeros(x: np.ndarray) -> float:
    """Of the high frequencies of the 8×8 blocks of x (N, H, W), the share that is below 1 in magnitude."""
    k = np.arange(8)
    cosines = np.cos(np.pi * np.outer(k, 2 * k + 1) / 16) / 2  # the orthonormal DCT-II, but for its first row
    n, height, width = (len(x), *(side // 8 for side in x.shape[1:]))
    blocks = x[:, : 8 * height, : 8 * width].reshape(n, height, 8, width, 8).transpose(0, 1, 3, 2, 4)
    high = np.add.outer(k, k) >= 8  # none of them is of the first row or column
    return float((np.abs(cosines @ blocks @ cosines.T)[..., high] < 1).mean())
