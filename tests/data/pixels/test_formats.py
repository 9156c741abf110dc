"""PNG, TIFF, GIF, WebP and others: depth, orientation, pages, and what concerns no pixel."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps, PngImagePlugin

from kit.config import ImageSettings
from kit.data.pixels.exif import directories, orientation, upright
from kit.data.pixels.images import decode, inspect, load
from kit.errors import UnreadableImage

SETTINGS = ImageSettings(size=16)


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)


def saved(image, kind, **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_of(values, colour):
    """A 16-bit PNG of (height, width, channels) values, of a colour type (ISO/IEC 15948, 11.2.2)."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff_of(values, order="<", **tags):
    """An uncompressed TIFF of one strip, with further tags by number."""
    height, width = values.shape[:2]
    samples = values.shape[2] if values.ndim == 3 else 1
    body = values.astype(values.dtype.newbyteorder(order)).tobytes()
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    entries = {256: width, 257: height, 258: [8 * values.itemsize] * samples, 259: 1, 262: 1 if samples == 1 else 2}
    entries |= {273: 8, 277: samples, 278: height, 279: len(body), 339: [kind] * samples}
    entries |= {int(tag[1:]): value for tag, value in tags.items()}
    start = 8 + len(body)
    directory, extra = struct.pack(f"{order}H", len(entries)), b""
    after = start + 2 + 12 * len(entries) + 4
    for tag, value in sorted(entries.items()):
        numbers = value if isinstance(value, list) else [value]
        packed = struct.pack(f"{order}{len(numbers)}{'H' if isinstance(value, list) else 'I'}", *numbers)
        if len(packed) > 4:
            extra, packed = extra + packed, struct.pack(f"{order}I", after + len(extra))
        kind = 3 if isinstance(value, list) else 4
        directory += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + packed.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)
    return head + body + directory + struct.pack(f"{order}I", 0) + extra


# --- more than 8 bit ---


def by_hand(values, low, high):
    share = (values.astype(np.float64) - low) / (high - low)
    return np.rint(share.clip(0, 1) * 255).astype(np.uint8)


def test_16_bit_grey_is_shown_from_its_smallest_to_its_largest_value():
    values = np.random.default_rng(0).integers(0, 4096, (20, 30)).astype(np.uint16)  # 12 bit in 16: not black
    expected = by_hand(values, values.min(), values.max())
    for data in (saved(values, "PNG"), saved(values, "TIFF"), tiff_of(values, ">"), saved(values, "PPM")):
        assert np.array_equal(decode(data)[..., 0], expected)
        assert load(data, SETTINGS).dtype == np.uint8


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", ["u2", "i2", "u4", "i4", "f4", "f8", "i1"])
def test_tiffs_of_every_depth(dtype, order):
    rng = np.random.default_rng(0)
    for shape in ((9, 7), (9, 7, 3)):
        values = (rng.integers(-100, 100, shape) if dtype[0] != "u" else rng.integers(0, 60_000, shape)).astype(dtype)
        expected = by_hand(values, float(values.min()), float(values.max())).reshape(9, 7, -1)
        assert np.array_equal(decode(tiff_of(values, order)), expected)
    assert np.array_equal(decode(tiff_of(values[..., 0], order, t262=0)), 255 - decode(tiff_of(values[..., 0], order)))


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_pngs_of_16_bit_keep_their_low_bytes(colour, channels):
    values = np.random.default_rng(0).integers(0, 4096, (20, 30, channels)).astype(np.uint16)
    shown = values[..., :3] if channels > 2 else values[..., :1]
    expected = by_hand(shown, shown.min(), shown.max())
    assert np.array_equal(decode(png_of(values, colour)), np.repeat(expected, 3, axis=2) if colour == 4 else expected)


def test_percentiles_of_the_values():
    values = np.arange(10_000, dtype=np.uint16).reshape(100, 100)
    image = decode(saved(values, "PNG"), ImageSettings(size=16, percentiles=(10, 90)))[..., 0]
    assert np.array_equal(image, by_hand(values, *np.percentile(values, [10, 90])))
    with pytest.raises(ValueError, match="from 0 to 100"):
        ImageSettings(percentiles=(90, 10))


def test_floats_that_are_no_numbers_have_no_part_in_the_range():
    values = np.linspace(-1, 1, 100, dtype=np.float32).reshape(10, 10)
    broken = values.copy()
    broken[0, 0], broken[0, 1], broken[9, 9] = np.nan, np.inf, -np.inf
    image = decode(tiff_of(broken))[..., 0]
    assert image[0, 0] == 0 and image[0, 1] == 255 and image[9, 9] == 0
    assert np.array_equal(image[1:9], by_hand(values, float(values[0, 2]), float(values[9, 8]))[1:9])
    huge = np.array([[-1.7e308, 1.7e308], [0, 0]])
    assert decode(tiff_of(huge))[..., 0].tolist() == [[0, 255], [128, 128]]


@pytest.mark.parametrize("value", [0, 77, np.nan])
def test_an_image_of_one_value_is_black(value):
    assert not decode(tiff_of(np.full((5, 5), value, np.float32))).any()


def test_bilevel(pixels):
    grey = Image.fromarray(pixels[..., 0]).convert("1")
    for data in (saved(grey, "TIFF"), saved(grey, "TIFF", compression="group4"), saved(grey, "PNG")):
        assert np.array_equal(decode(data)[..., 0], np.asarray(grey) * np.uint8(255))


# --- orientation ---


def turned(number):
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "MPO"])
def test_images_are_upright(pixels, kind, number):
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind in ("JPEG", "MPO") else {}
    if kind == "MPO":
        options |= {"save_all": True, "append_images": [Image.fromarray(pixels)]}  # a phone's second picture
    data = saved(pixels, kind, exif=turned(number), **options)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert np.array_equal(decode(data), expected)
    assert inspect(data, SETTINGS)[2].shape == ((30, 40, 3) if number > 4 else (40, 30, 3))


@pytest.mark.parametrize("number", range(1, 9))
def test_deep_tiffs_are_upright(number):
    values = np.random.default_rng(0).integers(0, 4096, (9, 7, 3)).astype(np.uint16)
    expected = upright(by_hand(values, values.min(), values.max()), number)
    assert np.array_equal(decode(tiff_of(values, t274=number)), expected)


def test_a_turned_jpeg_is_not_kept(pixels):
    square = pixels[:30]
    settings = ImageSettings(size=30)
    assert isinstance(load(saved(square, "JPEG", exif=turned(1)), settings), bytes)
    for number in range(2, 9):
        data = saved(square, "JPEG", exif=turned(number))
        plain = load(saved(square, "JPEG"), ImageSettings(size=30, encoding="png"))
        assert np.array_equal(load(data, settings), upright(plain, number))


@pytest.mark.parametrize(
    "exif", [b"", b"Exif\0\0", b"II*\0\x08\0\0\0\xff\xff", b"MM\0*\xff\xff\xff\xff" + bytes(20), bytes(100)]
)
def test_damaged_exif_turns_nothing(exif):
    assert orientation(exif) == 1
    assert all(not directory.whole for directory in directories(exif))


# --- pages ---


@pytest.mark.parametrize(("kind", "options"), [("TIFF", {}), ("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})])
def test_several_pages_are_not_one_image(pixels, kind, options):
    rng = np.random.default_rng(1)
    pages = [Image.fromarray(rng.integers(0, 256, (40, 30, 3), np.uint8)) for _ in range(2)]
    data = saved(pixels, kind, save_all=True, append_images=pages, **options)
    with pytest.raises(UnreadableImage, match="3 pages, not one image: split the file"):
        decode(data)
    decode(saved(pixels, kind, save_all=True, append_images=[], **options))


@pytest.mark.parametrize("thumbnail_first", [True, False])
def test_thumbnails_and_masks_are_no_pages(pixels, thumbnail_first):
    small = Image.fromarray(pixels).resize((15, 20))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    whole = Image.fromarray(pixels)
    first, second = (small, whole) if thumbnail_first else (whole, small)
    buffer = io.BytesIO()
    with PngFreeTiff(buffer) as tiff:
        for image in (first, second):
            image.save(tiff, "TIFF", tiffinfo={254: 1} if image is small else {})
            tiff.newFrame()
    assert np.array_equal(decode(buffer.getvalue()), pixels)


def PngFreeTiff(buffer):
    from PIL.TiffImagePlugin import AppendingTiffWriter

    return AppendingTiffWriter(buffer, new=True)


def test_directories_that_are_a_circle_end(pixels):
    data = bytearray(saved(pixels, "TIFF"))
    start = struct.unpack_from("<I", data, 4)[0]
    (count,) = struct.unpack_from("<H", data, start)
    struct.pack_into("<I", data, start + 2 + 12 * count, start)
    assert np.array_equal(decode(bytes(data)), pixels)


# --- what concerns no pixel ---


def test_pngs_are_read_without_their_metadata(pixels):
    info = PngImagePlugin.PngInfo()
    info.add_text("XML:com.adobe.xmp", "x" * 2_000_000, zip=True)
    assert np.array_equal(decode(saved(pixels, "PNG", pnginfo=info)), pixels)
    plain = saved(pixels, "PNG")
    broken = struct.pack(">I", 5) + b"tEXt" + b"a\0b\0c" + b"\0\0\0\0"  # another CRC
    for extra in (
        broken,
        chunk(b"iCCP", b"nonsense"),
        chunk(b"tRNS", b"\0"),
        chunk(b"eXIf", b"II*"),
        chunk(b"acTL", b""),
    ):
        assert np.array_equal(decode(plain[:33] + extra + plain[33:]), pixels)
    assert np.array_equal(decode(plain + b"bytes after the end"), pixels)


@pytest.mark.parametrize("what", ["IDAT", "IHDR"])
def test_pngs_whose_pixels_are_damaged_are_refused(pixels, what):
    data = bytearray(saved(pixels, "PNG"))
    data[data.find(what.encode()) + 8] ^= 1
    with pytest.raises(UnreadableImage):
        decode(bytes(data))


def test_odd_tags_of_a_tiff(pixels):
    data = tiff_of(pixels, t305=10**6, t700=5, t34675=2**31)  # Software, XMP and ICC profile that are numbers
    assert np.array_equal(decode(data), pixels)


def test_a_tiff_whose_directory_is_cut_off_is_refused(pixels):
    data = saved(pixels, "TIFF")  # the directory is in front of the strips
    start = struct.unpack_from("<I", data, 4)[0]
    with pytest.raises(UnreadableImage, match="directory is cut off"):
        decode(data[: start + 40])
    for data in (tiff_of(pixels)[:-30], tiff_of(pixels.astype(np.uint16))[:-30]):
        with pytest.raises(UnreadableImage, match="directory is cut off"):
            decode(data)


def test_a_notebook_that_has_pillow_read_truncated_files_changes_nothing_here(pixels, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(UnreadableImage, match="truncated"):
        decode(saved(pixels, "PNG")[:1000])
    assert ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("kind", ["EPS", "ICO", "PCX", "TGA"])
def test_other_formats_are_not_tried(pixels, kind):
    with pytest.raises(UnreadableImage, match="not an image file"):
        decode(saved(pixels, kind))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>not found</html>", "a web page"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "convert it"),
        (b"PK\3\4", "not an image file"),
    ],
)
def test_what_stands_in_the_place_of_images(data, reason):
    with pytest.raises(UnreadableImage, match=reason):
        decode(data)


# --- sizes ---


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "PPM"])
def test_a_larger_image_is_refused_before_it_is_decoded(kind):
    data = saved(np.zeros((3000, 2000), np.uint8), kind)
    with pytest.raises(UnreadableImage, match=r"it declares 6,000,000 pixels, more than image\.max_pixels = 5,000,000"):
        decode(data, ImageSettings(max_pixels=5_000_000))
    assert decode(data, ImageSettings(max_pixels=6_000_000)).shape[:2] == (3000, 2000)


def test_a_header_that_declares_terapixels_costs_no_memory(pixels):
    data = bytearray(saved(pixels, "PNG"))
    data[16:24] = struct.pack(">II", 2**31 - 1, 2**31 - 1)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    with pytest.raises(UnreadableImage, match=r"more than image\.max_pixels"):
        decode(bytes(data))
    for dtype in (np.uint8, np.uint16):
        with pytest.raises(UnreadableImage, match=r"more than image\.max_pixels"):
            decode(tiff_of(pixels.astype(dtype), t256=10**6, t257=10**6))


def test_more_pixels_than_pillow_takes_for_a_bomb():
    data = saved(Image.new("L", (19_000, 10_000)), "PNG", compress_level=1)
    assert decode(data).shape == (10_000, 19_000, 1)
    limit = Image.MAX_IMAGE_PIXELS
    assert limit and limit < 190_000_000  # as it was


def test_opencv_writes_what_is_read(pixels):
    for ending in (".bmp", ".webp", ".jp2", ".ppm"):
        options = [cv2.IMWRITE_WEBP_QUALITY, 101] if ending == ".webp" else []
        large = cv2.resize(pixels, (96, 96))
        success, data = cv2.imencode(ending, large[..., ::-1], options)
        assert success
        assert np.abs(decode(data.tobytes()).astype(int) - large).mean() <= (0 if ending != ".jp2" else 3)
