"""Pictures of coloured shapes, drawn here, with a sentence that is true of each."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from diptych.models.clip import CLIPConfig
from diptych.processing import ImageConfig
from diptych.towers import TextTransformerConfig, ViTConfig

COLOURS = {"red": (220, 30, 30), "green": (30, 160, 50), "blue": (40, 60, 220), "yellow": (245, 220, 40)}
GROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (128, 128, 128), "pink": (250, 170, 200)}
SHAPES = ("circle", "square", "triangle", "cross")
PLACES = {"left": 0.3, "right": 0.7}

TINY_CLIP = CLIPConfig(
    ViTConfig(image_size=16, patch_size=8, width=32, layers=1, heads=2),
    TextTransformerConfig(vocab_size=300, context_length=24, width=32, layers=1, heads=2, eos_id=1),
    ImageConfig(size=16),
    embed_dim=16,
)
CLIP_SETTINGS = {
    "model.image.size": "16",
    "model.vision.image_size": "16",
    "model.vision.width": "32",
    "model.vision.layers": "1",
    "model.vision.heads": "2",
    "model.text.width": "32",
    "model.text.layers": "1",
    "model.text.heads": "2",
    "model.embed_dim": "16",
    "training.steps": "6",
    "training.log_every": "2",
    "loader.batch_size": "16",
}


def draw(shape: str, colour: str, ground: str, place: str, size: int, rng: np.random.Generator) -> Image.Image:
    """One shape, a little shaken in place and size."""
    image = Image.new("RGB", (4 * size, 4 * size), GROUNDS[ground])
    pen, r = ImageDraw.Draw(image), 4 * size * rng.uniform(0.17, 0.25)
    x, y = 4 * size * (PLACES[place] + rng.uniform(-0.05, 0.05)), 4 * size * rng.uniform(0.4, 0.6)
    if shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), COLOURS[colour])
    if shape == "square":
        pen.rectangle((x - r, y - r, x + r, y + r), COLOURS[colour])
    if shape == "triangle":
        pen.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], COLOURS[colour])
    if shape == "cross":
        pen.rectangle((x - r, y - r / 3, x + r, y + r / 3), COLOURS[colour])
        pen.rectangle((x - r / 3, y - r, x + r / 3, y + r), COLOURS[colour])
    return image.resize((size, size), Image.Resampling.BOX)


def write_pictures(folder: Path, count: int, size: int, seed: int, blank: bool = False) -> None:
    """`count` pictures in a folder for each shape, with `captions.csv`; `blank` leaves nothing to see in them."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    with (folder / "captions.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "caption", "label", "creator"])
        for i in range(count):
            shape, colour = SHAPES[i % 4], str(rng.choice(list(COLOURS)))
            ground, place = str(rng.choice(list(GROUNDS))), str(rng.choice(list(PLACES)))
            image = draw(shape, colour, ground, place, size, rng)
            (folder / shape).mkdir(exist_ok=True)
            name = f"{shape}/{i:04d}.png"
            (Image.new("RGB", image.size, GROUNDS["grey"]) if blank else image).save(folder / name)
            caption = f"a {colour} {shape} on the {place} of {ground} ground"
            table.writerow([name, caption, shape, f"painter {i % 16}"])
