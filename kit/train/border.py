"""Random borders: the edges of an image move, as where a scanner leaves a black frame or cuts the picture."""

from typing import Any

from keras import ops


def frames(draw: Any, share: float, height: int, width: int) -> Any:
    """Where each image is put: float32 [B, 4] (left, top, right, bottom in whole pixels, also beyond the image).

    `draw` float32 [B, 4] is uniform in [-1, 1]; each edge moves by up to `share` of the side.
    """
    size = ops.convert_to_tensor([width, height, width, height], dtype="float32")
    edges = ops.convert_to_tensor([0, 0, width, height], dtype="float32")
    return edges + ops.round(draw * (share * size))


def framed(matrices: Any, frames: Any, height: int, width: int) -> Any:
    """The matrices [B, 8] of `affine` after which each image is shrunk or enlarged into its frame [B, 4]."""
    left, top, right, bottom = ops.split(frames, 4, axis=1)
    scale_x, scale_y = width / (right - left), height / (bottom - top)
    # Matrices map output pixels to input pixels, so the frame comes first; they count from the centres of pixels.
    from_x, from_y = (0.5 - left) * scale_x - 0.5, (0.5 - top) * scale_y - 0.5
    a0, a1, a2, b0, b1, b2, c0, c1 = ops.split(matrices, 8, axis=1)
    first = [a0 * scale_x, a1 * scale_y, a0 * from_x + a1 * from_y + a2]
    second = [b0 * scale_x, b1 * scale_y, b0 * from_x + b1 * from_y + b2]
    return ops.concatenate([*first, *second, c0, c1], axis=1)
