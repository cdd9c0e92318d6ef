"""Writes tests/golden/decode.json: small JPEGs and PNGs and what Pillow's convert("RGB") makes of them.

    python3 -m venv venv && venv/bin/pip install pillow==13.0.0 numpy
    venv/bin/python tests/golden/make_decode_golden.py

PNGs are written by hand, since Pillow cannot write every kind. Of 16-bit grey, which Pillow clips at 255, the high
byte is expected instead: that is what libpng, TensorFlow and torchvision make of it.
"""

import io
import json
import pathlib
import struct
import zlib

import numpy as np
import PIL
from PIL import Image

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))  # x y dx dy


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def scanlines(samples, depth, rng):
    """Rows of [h][w][channels] samples, packed and filtered (none, sub or up by chance)."""
    out, last = b"", None
    for row in samples.reshape(len(samples), -1):
        if depth == 16:
            packed = row.astype(">u2").tobytes()
        elif depth == 8:
            packed = row.astype(np.uint8).tobytes()
        else:
            bits = "".join(format(v, f"0{depth}b") for v in row)
            bits += "0" * (-len(bits) % 8)
            packed = bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8))
        near = max(1, samples.shape[2] * depth // 8)
        kind = int(rng.integers(3))
        before = {0: bytes(len(packed)), 1: bytes(near) + packed, 2: last or bytes(len(packed))}[kind]
        out += bytes([kind]) + bytes((a - b) % 256 for a, b in zip(packed, before))
        last = packed
    return out


def png(colour, depth, interlaced, transparent, rng, h=11, w=13):
    entries = min(2 ** depth, 40)
    samples = rng.integers(0, entries if colour == PALETTE else 2 ** depth, (h, w, CHANNELS[colour]))
    head = struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, int(interlaced))
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"gAMA", struct.pack(">I", 30000))
    if colour == PALETTE:
        out += chunk(b"PLTE", rng.integers(0, 256, 3 * entries).astype(np.uint8).tobytes())
    if transparent:
        out += chunk(b"tRNS", bytes(range(0, 200, 70))[:entries] if colour == PALETTE
                     else struct.pack(">H", 1) if colour == GREY else struct.pack(">HHH", 1, 2, 3))
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    parts = [samples[y::dy, x::dx] for x, y, dx, dy in passes]
    data = zlib.compress(b"".join(scanlines(p, depth, rng) for p in parts if p.size))
    out += b"".join(chunk(b"IDAT", data[i:i + 100]) for i in range(0, len(data), 100)) + chunk(b"IEND", b"")
    return out, samples


def jpeg(image, **options):
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def without_jfif(data):
    size = struct.unpack(">H", data[4:6])[0]
    assert data[2:4] == b"\xff\xe0"
    return data[:2] + data[4 + size:]


def cases():
    rng = np.random.default_rng(23)
    for colour, depths in ((GREY, (1, 2, 4, 8, 16)), (RGB, (8, 16)), (PALETTE, (1, 2, 4, 8)), (GREY_ALPHA, (8, 16)),
                           (RGBA, (8, 16))):
        for depth in depths:
            for interlaced in (False, True):
                for transparent in (False, True) if colour in (GREY, RGB, PALETTE) else (False,):
                    name = f"png colour {colour} depth {depth} interlaced {interlaced} tRNS {transparent}"
                    file, samples = png(colour, depth, interlaced, transparent, rng)
                    rgb = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))
                    if (colour, depth) == (GREY, 16):
                        rgb = np.repeat(samples >> 8, 3, axis=2).astype(np.uint8)
                    yield name, file, rgb
    y, x = np.mgrid[0:29, 0:37]
    noise = rng.integers(0, 60, (29, 37, 3))
    photo = Image.fromarray((np.stack([5 * x, 7 * y, 3 * x + 2 * y], 2) % 200 + noise).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turned, and to be left alone
    for name, file in (("4:4:4", jpeg(photo, subsampling="4:4:4", quality=90)),
                       ("4:2:2", jpeg(photo, subsampling="4:2:2", quality=80)),
                       ("4:2:0", jpeg(photo, subsampling="4:2:0", quality=70)),
                       ("progressive", jpeg(photo, progressive=True, quality=85)),
                       ("restart markers", jpeg(photo, restart_marker_blocks=2)),
                       ("grey", jpeg(photo.convert("L"))),
                       ("EXIF orientation", jpeg(photo, exif=exif)),
                       ("no JFIF", without_jfif(jpeg(photo))),
                       ("kept RGB", jpeg(photo, keep_rgb=True))):
        yield "jpeg " + name, file, np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


golden = pathlib.Path(__file__).with_name("decode.json")
lines = [json.dumps({"name": name, "file": file.hex(), "h": len(rgb), "w": len(rgb[0]), "rgb": rgb.tobytes().hex()},
                    separators=(",", ":")) for name, file, rgb in cases()]
golden.write_text('{"version": "Pillow %s", "cases": [\n%s]}\n' % (PIL.__version__, ",\n".join(lines)))
