"""The language model that comes from the package index: real weights from a GGUF file, and what it knows."""

import pytest
import torch

from diptych.decoding import write
from diptych.processing import TextProcessor
from diptych.towers import SMOLLM2, DecoderConfig, WeightsUnavailable, build_language, load_language
from diptych.towers.prompted import Prompted


@pytest.mark.slow
def test_smollm2_knows_a_capital() -> None:
    pytest.importorskip("gguf")
    pytest.importorskip("accelerate")
    try:
        found = load_language(SMOLLM2)
    except WeightsUnavailable as reason:
        pytest.skip(str(reason))
    assert isinstance(found.config, DecoderConfig) and found.config.kv_heads == 3
    assert (found.bos, found.eos, found.max_length) == ("<|endoftext|>", "<|endoftext|>", 8192)
    lm = build_language(found.config).eval()
    lm.load_state_dict(found.state_dict)
    words = TextProcessor.for_language(found.tokenizer_file, 64, found.bos, found.eos)
    tokens, keep = words.padded(
        [[words.bos_id, *ids] for ids in words.plain(["The capital of France is", "Two and two"])]
    )
    with torch.no_grad():
        written = write(Prompted(lm, lm.embed(tokens), keep), end=words.eos_id, most=4)
    assert words.decode(written[0].tokens).startswith("Paris")
