"""Owns images as PNG data addresses: misclassified samples and the weights of first layers."""

from __future__ import annotations

import base64
import io

import numpy as np

__all__ = ["filter_tiles", "png"]


def png(image) -> str:
    """An image (H, W) or (H, W, 3) of values 0–255 as a PNG data address."""
    from PIL import Image  # matplotlib requires it

    stream = io.BytesIO()
    Image.fromarray(np.clip(np.rint(np.asarray(image, dtype=np.float64)), 0, 255).astype(np.uint8)).save(
        stream, "PNG"
    )
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def filter_tiles(filters) -> list[str]:
    """Each filter (H, W) or (H, W, 3) as a PNG data address, on its own scale with zero as middle grey."""
    weights = np.asarray(filters, dtype=np.float64)
    scale = np.abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True)
    return [png(tile) for tile in 127.5 + 127.5 * weights / np.where(scale > 0, scale, 1)]
