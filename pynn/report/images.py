"""Owns images as PNG data addresses: misclassified samples and the weights of first layers."""

from __future__ import annotations

import base64
import io

import numpy as np

__all__ = ["filter_tiles", "png"]

SIDE = 128  # pixels of an image's longer side; of larger ones every second, third … pixel is shown


def png(image) -> str:
    """An image (H, W) or (H, W, 3) of values 0–255 as a PNG data address, thinned out where it is large."""
    from PIL import Image  # matplotlib requires it

    stream = io.BytesIO()
    pixels = np.asarray(image, dtype=np.float64)
    step = -(-max(pixels.shape[:2]) // SIDE)
    pixels = np.clip(np.rint(pixels[::step, ::step]), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def filter_tiles(filters) -> list[str]:
    """Each filter (H, W) or (H, W, 3) as a PNG data address, on its own scale with zero as middle grey."""
    weights = np.asarray(filters, dtype=np.float64)
    scale = np.abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True)
    return [png(tile) for tile in 127.5 + 127.5 * weights / np.where(scale > 0, scale, 1)]
