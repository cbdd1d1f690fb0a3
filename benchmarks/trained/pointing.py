"""Does the map of a word point at the thing that it names? The pointing game and the deletion test on unseen scenes.

    python benchmarks/trained/pointing.py runs/virtex --png words.png --picture 7

Maps by attention, where the family looks at the grid of its vision tower, and by gradient; intervals are over scenes.
`--png` draws where each word of one caption came from.
"""

import argparse

import diptych
from diptych.data import image_source
from diptych.evaluation.attribution import attribute, draw_words, evaluate_attribution


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", default="scenes:?n=200&size=64&objects=1-3&detail=5&split=test")
    parser.add_argument("--png")
    parser.add_argument("--picture", type=int, default=0, help="number of the picture that is drawn")
    options = parser.parse_args()
    model, dataset = diptych.load(options.model), diptych.open_dataset(options.data)
    ways = ("attention", "gradient") if getattr(model, "attends_to_grid", False) else ("gradient",)
    for how in ways:
        found = evaluate_attribution(model, dataset, how)
        print(f"{how}: {found.words} words, {len(found.rejected)} captions left out")
        for name, one in found.estimates.items():
            chance = "" if one.chance is None else f"  chance {one.chance:.3f}"
            print(f"  {name:24} {one.value:6.3f}  ({one.low:.3f} to {one.high:.3f}){chance}", flush=True)
    if options.png:
        picture = image_source(dataset[options.picture])
        said = diptych.caption(model, dataset.select([options.picture])).replies[0].text
        draw_words(picture, attribute(model, picture, said, ways[0]), options.png)


if __name__ == "__main__":
    main()
