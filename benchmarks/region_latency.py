"""What seeing costs: ViLT's patches beside the regions of a detector, one picture and one question at a time.

    python benchmarks/region_latency.py

Both at the size of their papers, with fresh weights: ViLT-B/32 on 384 x 640 pixels, and VisualBERT (BERT-base) on 36
regions that an FCOS with a ResNet-50 finds in 800 x 1344 pixels. Prints milliseconds a picture, best of some rounds
taken in turn, for what sees and for the whole, and ViLT's share of the other's time.
"""

import argparse
import dataclasses
import os
import time
from collections.abc import Callable

import torch

from diptych.models.region_reader import RegionsConfig
from diptych.models.vilt import PRESETS as VILT
from diptych.models.vilt import ViLT
from diptych.models.visualbert import PRESETS as VISUALBERT
from diptych.models.visualbert import VisualBERT
from diptych.towers.detector import DetectorConfig

WORDS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    patches = ViLT(VILT["b32"]).eval()
    regions = RegionsConfig(detector=DetectorConfig(), count=36)
    boxes = VisualBERT(dataclasses.replace(VISUALBERT["base"], regions=regions, features=256)).eval()
    tokens, mask = torch.randint(1000, 20000, (1, WORDS)), torch.ones(1, WORDS, dtype=torch.bool)
    small, large = (torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8) for size in ((384, 640), (800, 1344)))
    runs: dict[str, Callable[[], object]] = {
        "ViLT sees": lambda: patches.see(small),
        "ViLT, whole": lambda: patches.join(tokens, mask, *patches.see(small)),
        "VisualBERT's detector sees": lambda: boxes.see(large),
        "VisualBERT, whole": lambda: boxes.join(tokens, mask, *boxes.see(large)),
    }
    best = dict.fromkeys(runs, float("inf"))
    with torch.no_grad():
        for _ in range(options.rounds + 1):  # the first of all warms up
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                best[name] = min(best[name], 1000 * (time.perf_counter() - start))
    for name, milliseconds in best.items():
        print(f"{name:30} {milliseconds:8.1f} ms")
    print(f"{'ViLT / VisualBERT':30} {best['ViLT, whole'] / best['VisualBERT, whole']:8.2f}")


if __name__ == "__main__":
    main()
