"""Writes tests/golden/pillow.json: what Pillow's antialiased resize gives for small images of random bytes.

    python3 -m venv venv && venv/bin/pip install pillow==13.0.0 numpy
    venv/bin/python tests/golden/make_pillow_golden.py
"""

import json
import pathlib

import numpy as np
import PIL
from PIL import Image

SIZES = (((7, 9), (8, 8)), ((28, 28), (32, 32)), ((40, 30), (16, 16)), ((13, 50), (12, 10)), ((5, 3), (5, 3)), ((1, 1), (4, 4)))


def cases():
    rng = np.random.default_rng(17)
    for (h, w), (out_h, out_w) in SIZES:
        # Mostly black and white, so that bicubic overshoots and its clamping are seen.
        pixels = rng.choice(np.array([0, 255, 37, 130], np.uint8), (h, w, 3))
        for name, kind in (("bicubic", Image.Resampling.BICUBIC), ("bilinear", Image.Resampling.BILINEAR)):
            resized = np.asarray(Image.fromarray(pixels).resize((out_w, out_h), kind))
            yield {"resample": name, "shape": [h, w], "out": [out_h, out_w],
                   "pixels": pixels.ravel().tolist(), "resized": resized.ravel().tolist()}


golden = pathlib.Path(__file__).with_name("pillow.json")
lines = [json.dumps(case, separators=(",", ":")) for case in cases()]
golden.write_text('{"version": "Pillow %s", "cases": [\n%s]}\n' % (PIL.__version__, ",\n".join(lines)))
