"""What a person asks of a model; a model is only the capability Protocols of `diptych.types` here."""

from diptych.tasks.answer import Answered, answer
from diptych.tasks.caption import Captioned, caption
from diptych.tasks.classify import (
    TEMPLATES,
    Classification,
    Classified,
    class_embeddings,
    classify,
    classify_readable_images,
)
from diptych.tasks.detect import Detected, detect, propose
from diptych.tasks.draw import draw
from diptych.tasks.embed import (
    Embedded,
    embed_images,
    embed_readable_images,
    embed_texts,
    image_features,
    stream_images,
)
from diptych.tasks.fill import Filled, fill
from diptych.tasks.match import Matched, match
from diptych.tasks.retrieve import Hit, retrieve
from diptych.tasks.segment import Segmented, segment

__all__ = [
    "TEMPLATES",
    "Answered",
    "Captioned",
    "Classification",
    "Classified",
    "Detected",
    "Embedded",
    "Filled",
    "Hit",
    "Matched",
    "Segmented",
    "answer",
    "caption",
    "class_embeddings",
    "classify",
    "classify_readable_images",
    "detect",
    "draw",
    "embed_images",
    "embed_readable_images",
    "embed_texts",
    "fill",
    "image_features",
    "match",
    "propose",
    "retrieve",
    "segment",
    "stream_images",
]
