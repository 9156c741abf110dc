"""A picture of a page that kit wrote, for the documentation: headless Chromium's, cut to what is to be seen.

    python scripts/picture_of_page.py PAGE.html OUT.jpg [--width 1200] [--top 0] [--height 900] [--most 150]

It is made smaller until it has no more than `--most` KiB.
"""

import argparse
import io
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

_OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-background-networking")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=1200, help="of the window, in pixels")
    parser.add_argument("--top", type=int, default=0, help="where the cut begins")
    parser.add_argument("--height", type=int, default=900)
    parser.add_argument("--most", type=int, default=150, help="KiB")
    given = parser.parse_args()
    image = shot(given.page.resolve(), given.width, given.top + given.height)
    image = image.crop((0, given.top, given.width, given.top + given.height))
    content = encoded(image)
    while len(content) > given.most * 1024 and image.width > 300:
        image = image.resize((image.width * 4 // 5, image.height * 4 // 5), Image.Resampling.LANCZOS)
        content = encoded(image)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_bytes(content)
    print(f"{given.out}: {image.width} x {image.height} pixels, {len(content) // 1024} KiB")


def shot(page, width, height):
    """The top of a page as an image."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "page.png"
        places = (f"--user-data-dir={folder}/profile", f"--screenshot={target}", f"--window-size={width},{height}")
        subprocess.run([browser, *_OPTIONS, *places, page.as_uri()], check=True, capture_output=True)
        return Image.open(io.BytesIO(target.read_bytes())).convert("RGB")


def encoded(image):
    """The image as a JPEG."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=82, optimize=True)
    return stream.getvalue()


if __name__ == "__main__":
    main()
