"""Does a picture steer a language model that sees none? MAGIC (Su et al. 2022) against its own parts, by CIDEr-D.

    diptych train lm --preset simctg --data scenes60k --out runs/words --training.minutes 9
    diptych train clip --data scenes60k --out runs/clip --training.minutes 9 --model.text.context_length 64
    python benchmarks/trained/magic.py --lm runs/words --scorer runs/clip

The same language model, adapted to captions alone, writes about unseen scenes greedily, by nucleus sampling (p = 0.95),
by contrastive search (MAGIC with beta 0) and by MAGIC with beta 2, whose scorer is a dual encoder. Then the claim of
the paper, beta 2 > beta 0 > nucleus, as differences over the same scenes with their 95 % intervals. It is also checked
that beta 0 gives contrastive search's tokens exactly.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import diptych
from diptych.data.scenes.sample import from_json
from diptych.decoding import Sample, Written, contrastive, magic, write
from diptych.evaluation.caption import score_against
from diptych.evaluation.caption_claims import judge_claims
from diptych.evaluation.metrics.intervals import mean_interval
from diptych.tasks.embed import embed_images
from diptych.towers.prompted import Prompted

K, ALPHA, BETA, MOST = 45, 0.1, 2.0, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", required=True)
    parser.add_argument("--scorer", required=True)
    parser.add_argument("--data", default="scenes:?n=200&size=64&objects=1-3&detail=5&split=test")
    options = parser.parse_args()
    model, judge = diptych.load(options.lm), diptych.load(options.scorer)
    dataset = diptych.open_dataset(options.data)
    samples = dataset.take(range(len(dataset)))
    references, scenes = [one.captions for one in samples], [from_json(one.texts["scene"]) for one in samples]
    scorers = [scorer(judge, row) for row in torch.from_numpy(embed_images(judge, dataset))]
    words = model.processor.text
    stop: dict[str, int] = {"end": words.eos_id, "most": MOST}

    def decode(tokens: list[int]) -> str:
        return str(words.decode(tokens))

    ways: dict[str, Callable[[Any], list[Written]]] = {
        "greedy": lambda source: write(source, **stop),
        "nucleus": lambda source: write(source, **stop, rule=Sample(seed=0, top_p=0.95)),
        "beta 0": lambda source: magic(source, scorers, decode, **stop, k=K, alpha=ALPHA, beta=0),
        "beta 2": lambda source: magic(source, scorers, decode, **stop, k=K, alpha=ALPHA, beta=BETA),
    }
    each = {}
    for name, way in ways.items():
        with torch.no_grad():
            texts = [decode(one.tokens) for one in way(prompted(model, len(samples)))]
        cider = score_against(texts, references)
        claims, _ = judge_claims(texts, scenes, np.roll(np.arange(len(texts)), 1))
        each[name] = cider.each["caption/cider_d"]
        one, things = cider.estimates["caption/cider_d"], claims["caption/objects_right"][0].mean()
        print(
            f"{name:8} CIDEr-D {one.value:.3f} ({one.low:.3f} to {one.high:.3f}), things right {things:.1%}: {texts[0]}"
        )
    for better, worse in (("beta 2", "beta 0"), ("beta 0", "nucleus"), ("beta 2", "nucleus")):
        gap = mean_interval(each[better] - each[worse], np.random.default_rng(0), largest=None)
        print(f"{better} - {worse}: {gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})")
    plain = contrastive(prompted(model, 20), **stop, k=K, alpha=ALPHA)
    unguided = magic(prompted(model, 20), scorers[:20], decode, **stop, k=K, alpha=ALPHA, beta=0)
    if [one.tokens for one in plain] != [one.tokens for one in unguided]:
        raise SystemExit("beta 0 is not contrastive search")


def prompted(model: Any, rows: int) -> Prompted:
    """So many rows that begin with the start token and nothing else."""
    tokens = torch.full((rows, 1), model.processor.text.bos_id)
    return Prompted(model.lm, model.lm.embed(tokens), torch.ones_like(tokens, dtype=torch.bool))


def scorer(judge: Any, picture: torch.Tensor) -> Callable[[list[str]], torch.Tensor]:
    """How well texts fit one picture: the cosine times the scale that the dual encoder was trained with.

    Of a text that is too long for it the end is read, because there candidates differ.
    """
    words = judge.processor.text

    def score(texts: list[str]) -> torch.Tensor:
        ends = [ids[2 - words.context_length :] for ids in words.plain(texts)]
        tokens, mask = words.padded([[words.bos_id, *ids, words.eos_id] for ids in ends])
        with torch.no_grad():
            return judge.head.logit_scale.exp() * (judge.encode_text(tokens, mask) @ picture)

    return score


if __name__ == "__main__":
    main()
