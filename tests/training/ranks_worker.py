"""One of several processes that train together: `ranks_worker.py OUT`, started with torchrun's environment."""

import json
import sys
from pathlib import Path

import torch
from tiny_clip import colours, loader, tiny_clip
from toy_training import Regressor, Toy, ToyLoader, Worded, pairs

import diptych
from diptych import distributed
from diptych.data.loader import Loader
from diptych.data.store import DatasetWriter
from diptych.models.vilt import ViLT, ViLTConfig
from diptych.processing import ImageConfig
from diptych.training.config import TrainConfig
from diptych.training.loop import train
from diptych.training.teaching import Taught
from diptych.training.watch import NonFiniteLoss

PLAIN = TrainConfig(steps=12, lr=0.02, log_every=4, precision="fp32", device="cpu", checkpoint_every=6)
PIECES = TrainConfig(steps=12, lr=0.02, log_every=4, precision="fp32", device="cpu", checkpoint_every=6, micro_batch=2)
LOST = ("s003", "s010", "s011", "s040")
RUNS = {
    "plain": (Toy, PLAIN, ()),
    "pieces": (Toy, PIECES, ()),
    "each": (Regressor, PIECES, ()),
    "lost": (Toy, PIECES, LOST),
    "words": (Worded, PLAIN, LOST),
    "words in pieces": (Worded, PIECES, LOST),
}
CLIP_RUNS = {
    name: TrainConfig(steps=4, lr=1e-3, log_every=1, precision="fp32", device="cpu", micro_batch=micro)
    for name, micro in (("clip", None), ("clip in pieces", 3))
}


def runs(out: Path, rank: int, world: int) -> None:
    """Every kind of run, and the weights it ends with in `out/NAME.pt`."""
    for name, (kind, config, lost) in RUNS.items():
        model = kind()
        result = train(model, ToyLoader(rank=rank, world=world, lost=lost), config, out / name, show="silent")
        if rank == 0:
            torch.save({"weights": model.state_dict(), "samples": result.samples}, out / f"{name}.pt")
    for name, config in CLIP_RUNS.items():
        model, data = tiny_clip(), colours(out / f"data {name} {rank}")
        train(model, loader(data, model, rank, world), config, out / name, show="silent")
        if rank == 0:
            torch.save({"weights": model.state_dict()}, out / f"{name}.pt")
    taught(out, rank, world)


def taught(out: Path, rank: int, world: int) -> None:
    """A pupil whose every other part of a batch has no answers, so that two processes report different numbers."""
    samples = diptych.open_dataset("scenes:?n=16&size=32&objects=1-2").take(range(16))
    asked = [one for sample in samples for one in sample.questions]
    config = ViLTConfig(
        vocab_size=300, context_length=64, width=16, layers=1, heads=2, patch=8, image=ImageConfig(size=32)
    )
    answers = sorted({answer for one in asked for answer in one.answers})
    pupil, teacher = (ViLT.new(config, [one.question for one in asked], answers=answers, seed=i) for i in (0, 1))
    with DatasetWriter(out / f"taught data {rank}") as writer:
        for i, sample in enumerate(samples):
            sample.questions = [one for one in sample.questions if one.answers]
            for one in sample.questions if i % 8 >= 4 else ():
                one.answers = []
            writer.write(sample)
    loader = Loader(
        diptych.open_dataset(out / f"taught data {rank}"),
        pupil.processor,
        8,
        shuffle=False,
        drop_last=True,
        part=(rank, world),
        texts="questions",
        unlabelled=True,
        view=teacher.processor,
    )
    config = TrainConfig(steps=4, lr=1e-2, log_every=2, precision="fp32", device="cpu")
    train(pupil, loader, config, out / "taught", losses=Taught(pupil, teacher, config), show="silent")
    if rank == 0:
        torch.save({"weights": pupil.state_dict()}, out / "taught.pt")


def gathers(rank: int) -> dict:
    """`gather_with_grad` of one and two rows; every process weighs the gathered rows by its own numbers."""
    rows = torch.arange(rank + 1, dtype=torch.float32) + 10 * rank
    rows = torch.stack([rows, -rows], dim=1).requires_grad_()
    everything = distributed.gather_with_grad(rows)
    weights = torch.arange(6.0).reshape(3, 2) * (rank + 1)
    (everything * weights).sum().backward()
    scalar = distributed.gather_with_grad(torch.tensor(float(rank)))
    return {
        "rows": everything.tolist(),
        "gradient": rows.grad.tolist(),
        "first_row": distributed.first_row(rank + 1),
        "scalar": scalar.tolist(),
        "sum": distributed.all_sum(torch.tensor([1.0, rank])).tolist(),
        "numbers": distributed.all_numbers([rank, 0.5]),
        "objects": distributed.all_objects({"rank": rank}),
        "main": distributed.is_main(),
    }


def blame(out: Path, rank: int) -> str:
    """A broken sample of the second process stops both."""
    loader = ToyLoader(rank=rank, world=2)
    loader.data = pairs(48)
    loader.data.image_features[loader.data.ids.index("s020")] = float("nan")
    try:
        train(Toy(), loader, PIECES, out / "blame", show="silent")
    except NonFiniteLoss as error:
        return str(error)
    return "nothing was raised"


def stop(out: Path, rank: int) -> tuple[int, bool]:
    """A signal to one process ends both at the same step."""
    loader = ToyLoader(rank=rank, world=2, stop_at=5 if rank == 1 else None)
    result = train(Toy(), loader, PLAIN, out / "stop", show="silent")
    return result.steps, result.finished


def left_out(out: Path, rank: int) -> tuple[int, list[str]]:
    """The second process can read nothing of its part of the first batch: the first one's part is lost, and told."""
    order = torch.randperm(48, generator=torch.Generator().manual_seed(0))
    loader = ToyLoader(rank=rank, world=2, lost=tuple(f"s{int(i):03d}" for i in order[4:8]))
    told: list[str] = []
    result = train(
        Toy(), loader, PLAIN, out / "left_out", show="silent", on_event=lambda event: told.append(event.text)
    )
    return result.samples, [text for text in told if "left out" in text]


def main(out: Path) -> None:
    torch.set_num_threads(1)
    assert distributed.setup("cpu")
    assert not distributed.setup("cpu")
    rank, world = distributed.rank(), distributed.world_size()
    found = gathers(rank)
    runs(out, rank, world)
    found |= {"blame": blame(out, rank), "stop": stop(out, rank), "left_out": left_out(out, rank)}
    (out / f"rank{rank}.json").write_text(json.dumps(found))
    distributed.barrier()
    distributed.teardown()
    assert distributed.world_size() == 1


if __name__ == "__main__":
    main(Path(sys.argv[1]))
