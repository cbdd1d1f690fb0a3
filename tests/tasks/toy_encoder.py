"""A dual encoder that sees colours and reads their names: small enough to know what it must answer."""

import threading

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from diptych.images import decode
from diptych.types import Batch

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 50, 220), "white": (255,) * 3, "black": (0,) * 3}
WIDTH = 8


class ToyProcessor:
    """8 x 8 pixels; a token for each word, 1 for words that name no colour. Remembers what it was asked."""

    def __init__(self):
        self.decoded, self.threads, self.text_batches = 0, set(), []

    def decode_image(self, data):
        self.decoded += 1
        self.threads.add(threading.current_thread().name)
        return np.array(decode(data).resize((8, 8)), dtype=np.uint8)

    def collate(self, ids, images, texts):
        batch = Batch(ids=ids)
        if images is not None:
            batch.pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        if texts is not None:
            names = list(COLOURS)
            rows = [[names.index(w) + 2 if w in names else 1 for w in text.strip(".").split()] or [1] for text in texts]
            batch.tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
            for i, row in enumerate(rows):
                batch.tokens[i, : len(row)] = torch.tensor(row)
            batch.token_mask = batch.tokens > 0
            self.text_batches.append(tuple(batch.tokens.shape))
        return batch

    def fingerprint(self):
        return "toy"

    def image_fingerprint(self) -> str:
        return self.fingerprint()


class Toy(nn.Module):
    """`DualEncoder` and `HasFrozenImageTower`. Colours go to the space by a map with orthonormal columns."""

    def __init__(self, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.processor = ToyProcessor()
        self.tower_calls = 0
        self.tower = nn.Conv2d(3, 4, 1, bias=True)
        self.project = nn.Linear(4, WIDTH, bias=False)
        self.words = nn.Embedding(len(COLOURS) + 2, WIDTH)
        with torch.no_grad():
            self.tower.weight.copy_(torch.eye(4)[:, :3].reshape(4, 3, 1, 1))
            self.tower.bias.copy_(torch.tensor([-0.4, -0.4, -0.4, 0.2]))
            self.project.weight.copy_(torch.linalg.qr(torch.randn(WIDTH, 4, generator=generator))[0])
            self.words.weight.zero_()
            self.words.weight[1] = 1e-3
            for i, colour in enumerate(COLOURS.values()):
                seen = torch.tensor([*(c / 255 - 0.4 for c in colour), 0.2])
                self.words.weight[i + 2] = F.normalize(self.project(seen), dim=0)

    def image_features(self, pixels):
        self.tower_calls += 1
        return self.tower(pixels.float() / 255).mean(dim=(2, 3)).float()

    def embed_image_features(self, features):
        return F.normalize(self.project(features).float(), dim=-1)

    def image_tower_fingerprint(self):
        return "toy tower"

    def encode_image(self, pixels):
        return self.embed_image_features(self.image_features(pixels))

    def encode_text(self, tokens, token_mask):
        return F.normalize((self.words(tokens) * token_mask[..., None]).sum(dim=1).float(), dim=-1)


def picture(colour, size=(24, 16), noise=0, seed=0):
    """A PIL picture of one colour, perhaps with noise."""
    rng = np.random.default_rng(seed)
    pixels = np.broadcast_to(np.array(COLOURS[colour]), (size[1], size[0], 3))
    return Image.fromarray(np.clip(pixels + rng.integers(-noise, noise + 1, pixels.shape), 0, 255).astype(np.uint8))
