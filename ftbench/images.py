"""Reading photographs safely: decoded, bounded, scaled. Must not know catalogues or models.

Sits beside `items` in the order of layers: sources and the store may use it.
"""

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

STORED_SIDE = (
    256  # longest side of a stored photograph, pixels: enough for every encoder here, 0.03 GB per 1,000 images
)
_ORIENTATION = 0x0112  # EXIF tag
_MOST_PIXELS = 64_000_000  # a larger picture is refused before decoding: no product photograph is that large


class BrokenImage(Exception):
    """An image that cannot be used; the text is the reason, which the manifest lists."""


@dataclass(frozen=True, slots=True)
class Photograph:
    """A photograph as it is stored: pixels uint8 (h, w, 3), longest side at most STORED_SIDE; SHA-256 of its file.

    jpeg: the file's bytes where it is an RGB JPEG of that size already, to be kept as they are; else b"".
    """

    pixels: np.ndarray
    sha256: str
    jpeg: bytes


def load_photograph(path: Path) -> Photograph:
    """Read and bound a photograph.

    Raises BrokenImage: missing, not an image, truncated, or so large that decoding it could exhaust memory.
    """
    from PIL import Image, ImageOps

    try:
        data = Path(path).read_bytes()
    except OSError:
        raise BrokenImage("missing file") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                if image.width * image.height > _MOST_PIXELS:
                    raise BrokenImage(f"decompression bomb: {image.width}x{image.height} pixels")
                small = max(image.size) <= STORED_SIDE and image.format == "JPEG" and image.mode == "RGB"
                as_is = small and image.getexif().get(_ORIENTATION, 1) == 1
                image = ImageOps.exif_transpose(image)
                if image.mode in ("RGBA", "LA", "P"):  # transparent product cut-outs stand on white
                    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
                image = image.convert("RGB")
                image.thumbnail((STORED_SIDE, STORED_SIDE), Image.Resampling.LANCZOS)
                return Photograph(np.asarray(image), hashlib.sha256(data).hexdigest(), data if as_is else b"")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BrokenImage("decompression bomb: more pixels than any photograph") from None
    except Image.UnidentifiedImageError:
        raise BrokenImage("not an image") from None
    except (OSError, ValueError, SyntaxError) as problem:
        raise BrokenImage(f"truncated or damaged: {problem}") from None


def perceptual_hash(pixels: np.ndarray) -> int:
    """64-bit difference hash of an image uint8 (h, w, 3): signs of horizontal steps of its 9 x 8 grey thumbnail.

    Source: N. Krawetz, "Kind of like that" (2013). Near-duplicates differ in few bits.
    """
    from PIL import Image

    grey = np.asarray(Image.fromarray(pixels).convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    bits = (grey[:, 1:] > grey[:, :-1]).ravel()
    return int("".join("1" if bit else "0" for bit in bits), 2)


def png_bytes(pixels: np.ndarray) -> bytes:
    """PNG file of an image uint8 (h, w, 3); lossless."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG", compress_level=3)
    return out.getvalue()


def decoded(data: bytes) -> np.ndarray:
    """Pixels uint8 (h, w, 3) of a stored PNG or JPEG file."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))
