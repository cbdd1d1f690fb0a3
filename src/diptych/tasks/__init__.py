"""What a person asks of a model; a model is only the capability Protocols of `diptych.types` here."""

from diptych.tasks.classify import (
    TEMPLATES,
    Classification,
    Classified,
    class_embeddings,
    classify,
    classify_readable_images,
)
from diptych.tasks.embed import (
    Embedded,
    embed_images,
    embed_readable_images,
    embed_texts,
    image_features,
    stream_images,
)
from diptych.tasks.retrieve import Hit, retrieve

__all__ = [
    "TEMPLATES",
    "Classification",
    "Classified",
    "Embedded",
    "Hit",
    "class_embeddings",
    "classify",
    "classify_readable_images",
    "embed_images",
    "embed_readable_images",
    "embed_texts",
    "image_features",
    "retrieve",
    "stream_images",
]
