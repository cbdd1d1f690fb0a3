"""From a model that scores the next token to a text: greedy, sampled, beam, contrastive, among choices, guided."""

from diptych.decoding.beam import beam_search
from diptych.decoding.choices import likelihoods
from diptych.decoding.contrastive import contrastive
from diptych.decoding.magic import magic
from diptych.decoding.sample import Sample
from diptych.decoding.source import Source, SourceWithStates, Written
from diptych.decoding.step import Rule, greedy, write
from diptych.decoding.stream import Pieces, before_stop, stop_at, stream

__all__ = [
    "Pieces",
    "Rule",
    "Sample",
    "Source",
    "SourceWithStates",
    "Written",
    "beam_search",
    "before_stop",
    "contrastive",
    "greedy",
    "likelihoods",
    "magic",
    "stop_at",
    "stream",
    "write",
]
