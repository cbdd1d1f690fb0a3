"""From a model that scores the next token to a text: greedy, sampled, beam, contrastive, among choices, guided."""

from diptych.decoding.source import Source, Written
from diptych.decoding.step import Rule, greedy, write

__all__ = ["Rule", "Source", "Written", "greedy", "write"]
