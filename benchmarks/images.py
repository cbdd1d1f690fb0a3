"""What decoding plain JPEGs by simplejpeg saves beside Pillow, and that it gives the same pixels, on damaged files too.

    python benchmarks/images.py [--pictures 300] [--fuzzed 20000]

Time: `decode_plain_jpeg` and `decode` of `diptych.images` (the second is Pillow), and bare Pillow (`Image.open`,
`convert`), one thread, 256-px JPEGs of smooth noise at quality 90; best of three, taking turns.

Pixels: files in every mode, subsampling and quality, whole or damaged (bytes changed, cut out, doubled, the end lost).
Whatever `decode_plain_jpeg` accepts must be what `decode` gives, value for value; any other outcome ends with 1.
"""

from __future__ import annotations

import argparse
import io
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
from PIL import Image

from diptych.images import BadImage, decode, decode_plain_jpeg

SIDE = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--fuzzed", type=int, default=20_000)
    sizes = parser.parse_args()
    rng = np.random.default_rng(0)
    files = [jpeg(rng, SIDE, SIDE, "RGB", quality=90) for _ in range(sizes.pictures)]
    ways: dict[str, Callable[[bytes], object]] = {
        "decode_plain_jpeg (simplejpeg)": decode_plain_jpeg,
        "decode (Pillow)": lambda data: np.asarray(decode(data)),
        "bare Pillow": lambda data: np.asarray(Image.open(io.BytesIO(data)).convert("RGB")),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(3):
        for name, way in ways.items():
            started = time.process_time()
            for data in files:
                way(data)
            best[name] = min(best[name], (time.process_time() - started) / len(files))
    ours = best["decode_plain_jpeg (simplejpeg)"]
    for name, seconds in best.items():
        print(f"{name:32s} {seconds * 1e3:6.3f} ms a {SIDE}-px JPEG, {seconds / ours:.2f} x")
    fuzz(rng, sizes.fuzzed)


def jpeg(rng: np.random.Generator, width: int, height: int, mode: str, **options: object) -> bytes:
    """A file of smooth noise, which compresses about as photographs do."""
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 4), dtype=np.uint8)
    picture = Image.fromarray(coarse, "RGBA").resize((width, height), Image.Resampling.BICUBIC).convert("RGB")
    buffer = io.BytesIO()
    picture.convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def fuzz(rng: np.random.Generator, count: int) -> None:
    """Count what becomes of sound and damaged files; raises `SystemExit` at the first that the two read differently."""
    outcomes: Counter[str] = Counter()
    for number in range(count):
        width, height = (int(side) for side in rng.integers(1, 100, 2))
        mode = str(rng.choice(["RGB", "L", "CMYK"], p=[0.7, 0.2, 0.1]))
        data = jpeg(
            rng,
            width,
            height,
            mode,
            quality=int(rng.integers(1, 101)),
            progressive=bool(rng.random() < 0.3),
            optimize=bool(rng.random() < 0.3),
            **({"subsampling": int(rng.integers(0, 3))} if mode == "RGB" else {}),
            **({"restart_marker_blocks": int(rng.integers(1, 9))} if rng.random() < 0.3 else {}),
        )
        damaged = number % 4 > 0
        if damaged:
            data = damage(rng, data)
        kind = "damaged" if damaged else "sound"
        plain = decode_plain_jpeg(data)
        if plain is None:
            outcomes[f"{kind}, left to Pillow"] += 1
            continue
        try:
            same = np.array_equal(plain, np.asarray(decode(data)))
        except BadImage as error:
            raise SystemExit(f"file {number}: decode says {error}, decode_plain_jpeg gives pixels") from None
        if not same:
            raise SystemExit(f"file {number}: the pixels differ")
        outcomes[f"{kind}, equal pixels"] += 1
    print(f"{count:,} files: " + "; ".join(f"{number:,} {name}" for name, number in sorted(outcomes.items())))


def damage(rng: np.random.Generator, data: bytes) -> bytes:
    """Some bytes changed, a stretch cut out or doubled, or the end lost."""
    way = rng.integers(4)
    at = int(rng.integers(len(data)))
    stretch = int(rng.integers(1, 200))
    if way == 0:
        changed = bytearray(data)
        for place in rng.integers(0, len(data), int(rng.integers(1, 6))):
            changed[place] = int(rng.integers(256))
        return bytes(changed)
    if way == 1:
        return data[:at] + data[at + stretch :]
    return data[: at + stretch] + data[at:] if way == 2 else data[:at]


if __name__ == "__main__":
    main()
