"""Self-critical training on a model whose best caption is known, and around a family."""

import dataclasses

import pytest
import torch
from torch import nn

import diptych
from diptych.data.loader import Loader
from diptych.evaluation.reward import cider_reward
from diptych.models.visualgpt import PRESETS, VisualGPT
from diptych.processing import TextProcessor
from diptych.training.config import TrainConfig
from diptych.training.loop import train
from diptych.training.self_critical import SelfCritical, references_of
from diptych.types import Batch, InputError

WORDS = TextProcessor.train(["black white grey"] * 9, 300, 8)
REFERENCES = {"night": ["black"], "snow": ["white"]}


class Table(nn.Module):
    """Scores of the next token by picture (dark or bright) and last token: nothing stands in the optimum's way."""

    def __init__(self):
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(2, WORDS.vocab_size, WORDS.vocab_size))
        with torch.no_grad():  # as after training on captions: a word, and then the end
            said = [WORDS.prompts([""])[0][0], *WORDS.tokenizer.encode("black white grey").ids[1:-1]]
            self.scores[:, said[0], said[1:]] = 8.0
            self.scores[:, said[1:], WORDS.eos_id] = 12.0
        self.words = said[1:]
        self.lm = type("Head", (), {"logits": staticmethod(lambda hidden: hidden)})
        self.processor = type("Processor", (), {"text": WORDS})

    def states(self, batch):
        bright = (batch.pixels.float().mean(dim=(1, 2, 3)) > 128).long()
        return self.scores[bright[:, None], batch.tokens]

    def read(self, pictures, prompts):
        assert not self.training and not torch.is_grad_enabled()
        return Row(self, torch.tensor([int(some[0].mean() > 128) for some in pictures]), torch.tensor(prompts)[:, -1])


class Row:
    """A `decoding.Source` over the table."""

    def __init__(self, model, bright, last):
        self.model, self.bright, self.last = model, bright, last

    def logits(self):
        return self.model.scores[self.bright, self.last]

    def advance(self, tokens):
        self.last = tokens

    def select(self, rows):
        self.bright, self.last = self.bright[rows], self.last[rows]


def test_it_finds_the_best_caption_of_each_picture():
    torch.manual_seed(0)
    pixels = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    pixels[1] = 255
    batch = Batch(["night", "snow"] * 16, pixels.repeat(16, 1, 1, 1))
    model = Table().train()
    compared = SelfCritical(model, lambda said, told: [float(a in b) for a, b in zip(said, told)], REFERENCES, most=4)
    optimizer = torch.optim.Adam(model.parameters(), 0.3)
    first = compared(batch).stats["reward/drawn"]
    for _ in range(150):
        optimizer.zero_grad()
        losses = compared(batch)
        losses.total.backward()
        optimizer.step()
    assert 0.1 < float(first) < 0.6 and float(losses.stats["reward/greedy"]) == 1.0
    chances = model.scores.detach()[:, WORDS.bos_id].softmax(-1)[:, model.words]
    assert float(chances[0, 0]) > 0.95 and float(chances[1, 1]) > 0.95 and model.training


def test_a_family_takes_a_step_in_the_loop(tmp_path):
    world = diptych.open_dataset("scenes:?n=8&size=32&objects=1")
    texts = [caption for captions in world.column("captions") for caption in captions]
    tiny = PRESETS["tiny"]
    config = dataclasses.replace(tiny, lm=dataclasses.replace(tiny.lm, vocab_size=400, width=32, layers=1))
    model = VisualGPT.new(config, texts)
    before = model.lm.token_embedding.weight.clone()
    references = references_of(world)
    assert references[world[3].id] == world[3].captions
    losses = SelfCritical(model, cider_reward(references.values()), references, most=8)
    loader = Loader(world, model.processor, 4, shuffle=True, drop_last=True)
    config = TrainConfig(steps=2, lr=1e-3, log_every=1, groups=(("^visual", None),), ema=0.9)  # by the model's names
    statistics = [buffer.clone() for buffer in model.visual.buffers()]
    result = train(model, loader, config, tmp_path / "run", losses=losses, show="silent")
    assert all(map(torch.equal, model.visual.buffers(), statistics))
    assert result.ema is not None and result.ema.keys() <= model.state_dict().keys()
    assert {"loss/scst", "reward/drawn", "reward/greedy"} <= result.values.keys()
    assert not torch.equal(model.lm.token_embedding.weight, before)


def test_cider_reward_is_higher_for_a_better_caption():
    corpus = [["a red cube on a lawn"], ["a blue ball on sand"], ["a green cone"]]
    worth = cider_reward(corpus)(["a red cube on a lawn", "a green cone"], [corpus[0], corpus[1]])
    assert worth[0] == pytest.approx(10) and worth[1] < 2


def test_a_model_without_states_is_refused():
    with pytest.raises(InputError, match="states"):
        SelfCritical(nn.Linear(1, 1), lambda said, told: [0.0], {})


def test_a_trained_model_goes_on_by_its_own_captions_from_the_settings_alone(tmp_path):
    world = diptych.open_dataset("scenes:?n=24&size=32&objects=1")
    common = {"batch_size": 8, "held_out": 0.2, "split_by": "id"}
    model = {"lm": {"kind": "decoder", "vocab_size": 400, "context_length": 40, "width": 32, "layers": 1, "heads": 4}}
    first = diptych.recipe("visualgpt", settings={"model": model, "training": {"steps": 2}, "loader": common})
    diptych.train(first, world, tmp_path / "captions", show="silent")
    told = {"training": {"steps": 2, "lr": 1e-3, "log_every": 1, "self_critical": True}, "loader": common}
    second = diptych.recipe("visualgpt", start=tmp_path / "captions", settings=told)
    trained = diptych.train(second, world, tmp_path / "scst", show="silent")
    assert trained.run is not None and {"loss/scst", "reward/drawn"} <= trained.run.values.keys()
    before, after = diptych.load(tmp_path / "captions").state_dict(), diptych.load(tmp_path / "scst").state_dict()
    assert before.keys() == after.keys() and any(not torch.equal(value, after[key]) for key, value in before.items())
    with pytest.raises(InputError, match="self_critical: expected a model that has learnt captions"):
        diptych.train(diptych.recipe("visualgpt", settings=told), world, tmp_path / "fresh", show="silent")
