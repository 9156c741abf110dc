"""Images of records as pictures on a page: JPEG, with maps, contours and boxes over them."""

from collections.abc import Sequence

import numpy as np

TRUE, FOUND = (0, 158, 115), (213, 94, 0)  # RGB: boxes that are there (green), and that a model found (vermilion)
_SIDE = 256  # pixels of a picture: small images are enlarged to it, large ones made smaller


def jpeg(image: np.ndarray, side: int = _SIDE, quality: int = 85) -> bytes:
    """An image uint8 [H, W], [H, W, 1] or [H, W, 3] (RGB) as a JPEG whose longer side has `side` pixels."""
    import cv2

    rgb = resized(as_rgb(image), side)
    done, encoded = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"an image of shape {image.shape} cannot be encoded")
    return encoded.tobytes()


def as_rgb(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W], [H, W, 1] or [H, W, 3] -> uint8 [H, W, 3]."""
    grey = image[..., None] if image.ndim == 2 else image
    return np.ascontiguousarray(np.repeat(grey, 3, axis=2) if grey.shape[2] == 1 else grey)


def resized(image: np.ndarray, side: int) -> np.ndarray:
    """The image with its longer side of `side` pixels; enlarged ones show their own pixels as they are."""
    import cv2

    scale = side / max(image.shape[:2])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def with_boxes(
    image: np.ndarray, boxes: np.ndarray, colour: tuple[int, int, int], texts: Sequence[str] = (), side: int = _SIDE
) -> np.ndarray:
    """The image, enlarged to `side`, with boxes [n, 4] (x, y, w, h as shares of it) and a text at each, uint8 RGB."""
    import cv2

    canvas = resized(as_rgb(image), side)
    height, width = canvas.shape[:2]
    for n, (x, y, w, h) in enumerate(np.asarray(boxes, float).reshape(-1, 4)):
        corners = (round(x * width), round(y * height)), (round((x + w) * width), round((y + h) * height))
        cv2.rectangle(canvas, *corners, colour, 2)
        if n < len(texts):
            place = corners[0][0] + 2, max(12, corners[0][1] - 4)
            cv2.putText(canvas, texts[n], place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 3, cv2.LINE_AA)
            cv2.putText(canvas, texts[n], place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    return canvas


def with_map(image: np.ndarray, heat: np.ndarray, strength: float = 0.55, side: int = _SIDE) -> np.ndarray:
    """The image, enlarged to `side`, under a map float [h, w] in 0..1 (1: what spoke most for the label), uint8 RGB.

    The map is transparent where it is 0, so that what did not matter stays as it was.
    """
    import cv2

    canvas = resized(as_rgb(image), side)
    heat = np.clip(np.nan_to_num(np.asarray(heat, np.float32)), 0, 1)
    heat = np.clip(cv2.resize(heat, canvas.shape[1::-1], interpolation=cv2.INTER_CUBIC), 0, 1)
    colours = cv2.applyColorMap(np.round(heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    weight = strength * heat[..., None] ** 0.7
    return np.clip(canvas * (1 - weight) + colours * weight, 0, 255).astype(np.uint8)
