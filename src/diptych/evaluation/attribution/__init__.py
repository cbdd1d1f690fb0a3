"""Where in the picture each word of a caption came from, whether that is so, and how it looks."""

from diptych.evaluation.attribution.judge import Attributed, evaluate_attribution
from diptych.evaluation.attribution.maps import How, WordMap, attribute
from diptych.evaluation.attribution.picture import draw_words

__all__ = ["Attributed", "How", "WordMap", "attribute", "draw_words", "evaluate_attribution"]
