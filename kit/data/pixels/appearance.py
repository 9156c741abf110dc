"""What an image looks like, whatever it shows: a few numbers by which images of different sources differ."""

import numpy as np

_LAB = ("lightness", "redness", "yellowness")  # L*, a*, b*
COLOUR = (*_LAB, *(f"{name}_sd" for name in _LAB), "stain_low", "stain_high")
GREY = ("mean", "contrast", "border", "grey_5%", "grey_25%", "grey_50%", "grey_75%", "grey_95%")
CHROMA = "chroma"  # the mean distance from grey in a*, b*: 0 of grey images
NAMES = (*COLOUR, *GREY, CHROMA)

_SIDE = 32  # pixels that are looked at along each side, about
_BLACK = 12  # up to which a pixel may be border
_TISSUE = 0.15  # optical density, above which a pixel is no background
_FEW = 0.02  # share of such pixels, below which all are looked at
_WHITE_POINT = np.array([0.95047, 1.0, 1.08883], np.float32)  # D65
_XYZ = np.array(  # of linear sRGB (IEC 61966-2-1)
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]],
    np.float32,
)
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]], np.float32)  # haematoxylin, eosin (Ruifrok 2001)


def appearance(images: np.ndarray) -> np.ndarray:
    """Float32 [B, NAMES] of images uint8 [B, H, W, C], C = 1 or 3, of which every few pixels are looked at.

    Of colour, where it is no background: means and deviations of L*a*b*, and the hues of the two stains as Macenko et
    al. (2009) find them, the extreme angles of the optical density, in the plane of haematoxylin and eosin. Of grey
    values: mean, deviation, the share of the near-black border, and quantiles.
    """
    steps = [max(1, side // _SIDE) for side in images.shape[1:3]]
    pixels = images[:, :: steps[0], :: steps[1]]
    rgb = np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels[..., :3]
    grey = rgb.mean(axis=-1, dtype=np.float32)
    lab, flat = _lab(rgb), grey.reshape(len(grey), grey.shape[1] * grey.shape[2])
    columns = [
        np.array([_of_colour(*pair) for pair in zip(rgb, lab, strict=True)]).reshape(-1, len(COLOUR)),
        np.stack([flat.mean(axis=1), flat.std(axis=1), [_border(image) for image in grey]], axis=1),
        np.quantile(flat, [0.05, 0.25, 0.5, 0.75, 0.95], axis=1).T,
        np.hypot(lab[..., 1], lab[..., 2]).mean(axis=(1, 2))[:, None],
    ]
    return np.concatenate(columns, axis=1).astype(np.float32)


def _lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b*, float32, of sRGB uint8 [..., 3]."""
    values = np.arange(256, dtype=np.float32) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4).astype(np.float32)
    xyz = linear[rgb] @ _XYZ.T / _WHITE_POINT
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def _of_colour(rgb: np.ndarray, lab: np.ndarray) -> np.ndarray:
    """COLOUR of an image [H, W, 3], from the pixels that are no background; of all where these are few."""
    density = -np.log10((rgb.reshape(-1, 3).astype(np.float32) + 1) / 256)
    stained = density.mean(axis=1) > _TISSUE
    if stained.mean() < _FEW:
        stained[:] = True
    density, lab = density[stained], lab.reshape(-1, 3)[stained]
    first = _STAINS[0] / np.linalg.norm(_STAINS[0])
    second = _STAINS[1] - first * (_STAINS[1] @ first)
    angles = np.arctan2(density @ (second / np.linalg.norm(second)), density @ first)
    return np.concatenate([lab.mean(axis=0), lab.std(axis=0), np.quantile(angles, [0.01, 0.99])])


def _border(grey: np.ndarray) -> float:
    """The share of an image [H, W] outside the smallest rectangle that holds all that is not nearly black."""
    rows, columns = (np.flatnonzero((grey > _BLACK).mean(axis=axis) > 0.02) for axis in (1, 0))
    if not (len(rows) and len(columns)):
        return 1.0
    inside = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
    return float(1 - inside / grey.size)
