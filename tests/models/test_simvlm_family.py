"""SimVLM: one objective, PrefixLM; one checkpoint captions, goes on from a beginning, and answers."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import diptych
from diptych import models
from diptych.capabilities import AnswersQuestions, EncodesImages, WritesCaptions
from diptych.data.loader import Loader
from diptych.data.store import Dataset
from diptych.decoding import likelihoods, write
from diptych.models.simvlm import SimVLM, SimVLMConfig, prefix_lengths, suffix
from diptych.processing import QUESTION, ImageConfig
from diptych.towers import DecoderConfig, ResNetConfig
from diptych.training.config import TrainConfig
from diptych.training.step import Stepper
from diptych.types import Batch, InputError

DECODER = DecoderConfig(vocab_size=400, context_length=64, width=64, layers=1, heads=4, activation="gelu")
CONFIG = SimVLMConfig(
    ResNetConfig(depths=(1, 1), stem_width=24, block="basic"), DECODER, ImageConfig(size=32), grid=4, encoder_layers=1
)
COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200), "white": (240, 240, 240)}
WHICH = "What color is the block?"


@pytest.fixture(scope="module")
def world() -> Dataset:
    return diptych.open_dataset("scenes:?n=64&size=32&objects=1&detail=5")


@pytest.fixture(scope="module")
def captions(world: Dataset) -> list[str]:
    return [sample.captions[0] for sample in world.take(range(64), ["captions"])]


@pytest.fixture
def model(captions: list[str]) -> SimVLM:
    return SimVLM.new(CONFIG, [*captions, QUESTION.format(WHICH), *COLOURS], seed=0)


@pytest.fixture
def pairs(world: Dataset, model: SimVLM) -> Batch:
    return next(Loader(world, model.processor, 64, shuffle=False, drop_last=True).epoch(0))


def blocks(model: SimVLM) -> Batch:
    """Four plain pictures, each with a caption and with a question."""
    pictures = [torch.tensor(c, dtype=torch.uint8).expand(32, 32, 3).numpy() for c in COLOURS.values()]
    texts = [f"there is a {name} block here" for name in COLOURS] + list(COLOURS)
    return model.processor.collate(list("abcdefgh"), pictures * 2, texts, prompts=[""] * 4 + [WHICH] * 4)


def fit(model: SimVLM, batch: Batch, steps: int, lr: float = 5e-3) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    torch.manual_seed(0)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(batch).total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()


# ------------------------------------------------------------ the cut


def test_a_caption_is_cut_at_each_place_equally_often_and_a_question_is_all_prefix() -> None:
    keep = torch.arange(7) < torch.tensor([7, 5])[:, None]
    wanted = keep.clone()
    wanted[:, 0] = False  # a caption: all but the start token
    asked = keep & (torch.arange(7) >= 3)  # a question: from its fourth token on
    torch.manual_seed(0)
    drawn = torch.stack([prefix_lengths(keep, wanted) for _ in range(3000)])
    for row, length in enumerate((7, 5)):
        share = torch.bincount(drawn[:, row], minlength=8) / 3000
        assert share[:1].sum() == 0 and share[length:].sum() == 0  # the start token is given, the end token never is
        assert (share[1:length] - 1 / (length - 1)).abs().max() < 0.03
    assert prefix_lengths(keep, asked).tolist() == prefix_lengths(keep, asked, 1.0).tolist() == [3, 3]
    assert prefix_lengths(keep, asked, questions=False).tolist() == [1, 1]
    then_asked = wanted.clone()
    then_asked[:, 3] = False  # after two words, a question begins
    assert set(torch.cat([prefix_lengths(keep, then_asked) for _ in range(99)]).tolist()) == {1, 2}
    assert prefix_lengths(keep, wanted, 1.0).tolist() == [1, 1]  # written whole
    uncut = torch.stack([prefix_lengths(keep, wanted, 0.6) for _ in range(3000)]) == 1
    assert (uncut.float().mean(dim=0) - (0.6 + 0.4 / torch.tensor([6, 4]))).abs().max() < 0.03
    torch.manual_seed(3)
    first = prefix_lengths(keep, wanted)
    torch.manual_seed(3)
    assert torch.equal(first, prefix_lengths(keep, wanted))


def test_the_decoder_reads_the_start_token_and_what_comes_after_the_prefix() -> None:
    tokens = torch.tensor([[2, 5, 6, 7, 1], [2, 8, 9, 1, 0], [2, 8, 9, 1, 0]])
    wanted = (tokens > 0) & (torch.arange(5) > 0)
    written, targets = suffix(tokens, wanted, torch.tensor([3, 1, 2]))
    assert written[0, :3].tolist() == [2, 7, 1] and targets[0].tolist() == [False, True, True, False, False]
    assert written[1].tolist() == [2, 8, 9, 1, 0] and targets[1].tolist() == [False, True, True, True, False]
    assert written[2, :3].tolist() == [2, 9, 1] and targets[2].tolist() == [False, True, True, False, False]
    written, targets = suffix(tokens, wanted, torch.tensor([4, 3, 3]))
    assert written.tolist() == [[2, 1, 1], [2, 1, 0], [2, 1, 0]]
    assert targets.tolist() == [[False, True, False]] * 3


# ------------------------------------------------------------ the loss


def test_the_loss_by_hand(model: SimVLM) -> None:
    model.eval()
    batch = blocks(model)
    torch.manual_seed(5)
    given = prefix_lengths(batch.token_mask, batch.target_mask)
    nats = []
    for row in range(8):
        text = batch.tokens[row][batch.token_mask[row]]
        cut = int(given[row])
        image = model.visual(model.normalize(batch.pixels[row : row + 1])).tokens
        prefix = model.decoder.token_embedding(text[:cut]) + model.text_positions[:cut]
        x = torch.cat([model.to_width(image)[0] + model.image_positions, prefix])[None]
        for layer in model.encoder.layers:
            x = layer(x)
        memory = model.encoder_norm(x)
        spoken = torch.cat([text[:1], text[cut:]])
        y = model.decoder.token_embedding(spoken) + model.decoder.positions[cut - 1 : cut - 1 + len(spoken)]
        y = y[None]
        for layer in model.decoder.layers:
            y = y + layer.attention(layer.norm1(y), causal=True)
            y = y + layer.cross.attention(layer.cross.norm(y), memory)
            y = y + layer.mlp(layer.norm2(y))
        logits = model.decoder.final_norm(y)[0] @ model.decoder.token_embedding.weight.T
        nats.append(F.cross_entropy(logits[:-1], spoken[1:], reduction="none"))
        assert row < 4 or torch.equal(spoken[1:-1], batch.tokens[row][batch.target_mask[row]][:-1])
    torch.manual_seed(5)
    model.training = True  # in use nothing is drawn; the batch norms stay as they were
    losses = model(batch)
    torch.testing.assert_close(losses.total, torch.cat(nats).mean())
    assert losses.terms == len(torch.cat(nats))


def test_a_fresh_model_knows_nothing(model: SimVLM, pairs: Batch) -> None:
    losses = model(pairs)
    chance = math.log(model.decoder.vocab_size)
    assert losses.chance == {"loss/prefix_lm": chance}
    assert abs(losses.total.item() - chance) < 0.25


def test_accumulated_is_the_plain_step(model: SimVLM) -> None:
    """In evaluation mode, where no prefix is drawn and batch norm has no batch."""
    model.eval()
    pictures = [torch.tensor(c, dtype=torch.uint8).expand(32, 32, 3).numpy() for c in COLOURS.values()]
    batch = model.processor.collate(
        list("abcd"), pictures, ["red", "green block", "red", "blue"], prompts=[WHICH, "color", WHICH, ""]
    )
    grads = []
    for micro in (None, 2):
        model.zero_grad()
        step = Stepper(model, TrainConfig(steps=1, micro_batch=micro, precision="fp32"), torch.device("cpu"))
        step(batch, 0, [4])
        grads.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for plain, accumulated in zip(*grads):
        torch.testing.assert_close(accumulated, plain, atol=1e-6, rtol=1e-3)


# ------------------------------------------------------------ who sees what


def test_the_prefix_sees_itself_both_ways_and_nothing_of_what_is_to_be_written(model: SimVLM, pairs: Batch) -> None:
    model.eval()
    batch = pairs.chunks(2)[0]
    keep = torch.arange(6).expand(2, 6) < torch.tensor([4, 6])[:, None]
    tokens = batch.tokens[:, :6]
    plain, _ = model.encode(batch.pixels, tokens, keep)
    for place, told in ((3, True), (4, False)):  # in the prefix of the first row, and behind it
        changed = tokens.clone()
        changed[0, place] += 1
        other, _ = model.encode(batch.pixels, changed, keep)
        moved = (plain - other)[0].abs().amax(dim=1)
        assert bool((moved[: 16 + 4] > 0).all()) is told  # the picture's 16 cells see the text too
        assert torch.equal(plain[1], other[1])


def test_the_decoder_sees_what_was_written_and_the_prefix_only(model: SimVLM, pairs: Batch) -> None:
    model.eval()
    batch = pairs.chunks(2)[0]
    memory = model.encode(batch.pixels)[0]
    changed = batch.tokens.clone()
    changed[:, 5] = changed[:, 5] + 1
    states = [model.decoder(model.decoder.embed(row), memory=memory) for row in (batch.tokens, changed)]
    assert torch.equal(states[0][:, :5], states[1][:, :5])
    assert (states[0] - states[1])[:, 5:].abs().amax(dim=2).min() > 0
    other = model.decoder(model.decoder.embed(batch.tokens), memory=memory.flip(0))
    assert (states[0] - other).abs().amax(dim=2).min() > 0


def test_rows_without_a_picture_learn_from_text_and_rows_without_text_ask_for_nothing(model: SimVLM) -> None:
    model.eval()
    batch = blocks(model)
    some = torch.tensor([True, False] * 4)

    def loss(batch: Batch) -> torch.Tensor:
        torch.manual_seed(1)
        return model(batch).total

    mixed = dataclasses.replace(batch, has_image=some)
    noise = torch.where(some[:, None, None, None], batch.pixels, torch.randint(0, 255, batch.pixels.shape).byte())
    assert torch.equal(loss(mixed), loss(dataclasses.replace(mixed, pixels=noise)))
    torch.testing.assert_close(loss(dataclasses.replace(batch, has_image=~some & some)), loss(_blind(batch)))
    torch.testing.assert_close(loss(dataclasses.replace(batch, has_image=some | ~some)), loss(batch))
    lone = dataclasses.replace(batch, has_text=torch.zeros(8, dtype=torch.bool))
    assert loss(lone).item() == 0
    model.zero_grad()
    loss(_blind(batch)).backward()
    assert model.decoder.layers[0].cross.attention.k_proj.weight.grad.abs().sum() > 0
    assert model.visual.trunk.stem.conv.weight.grad is None


def test_pairs_and_lone_texts_are_trained_on_together(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("\n".join(f"a sentence about the number {i}" for i in range(40)))
    mixture = tmp_path / "both.toml"
    pairs = "scenes:?n=40&size=32&objects=1"
    mixture.write_text(f'[[parts]]\ndata = "{pairs}"\n[[parts]]\ndata = "text:words.txt"\n')
    settings = {
        "model": dataclasses.asdict(CONFIG),
        "training": {"epochs": 2},
        "loader": {"batch_size": 16, "held_out": 0.2, "split_by": "id"},
    }
    data = diptych.open_dataset(f"mix:{mixture}")
    trained = diptych.train(diptych.recipe("simvlm", settings=settings), data, tmp_path / "run", show="none")
    assert trained.run is not None and trained.held_out is not None and not trained.run.rejected
    held = trained.held_out.take(range(len(trained.held_out)))
    assert trained.run.samples == 2 * ((80 - len(held)) // 16 * 16)
    assert trained.estimates["caption/cider_d"].n == sum(bool(one.images) for one in held) < len(held)


def test_documents_with_several_pictures_are_refused_in_one_sentence(model: SimVLM) -> None:
    batch = dataclasses.replace(blocks(model), picture_of=torch.arange(8))
    with pytest.raises(InputError, match=r"simvlm: expected one picture a row; set loader\.texts to captions"):
        model(batch)


def _blind(batch: Batch) -> Batch:
    return dataclasses.replace(batch, pixels=None)


# ------------------------------------------------------------ what it can do


def test_what_it_can_do(model: SimVLM, pairs: Batch) -> None:
    assert (
        isinstance(model, WritesCaptions) and isinstance(model, AnswersQuestions) and isinstance(model, EncodesImages)
    )
    features = model.eval().encode_image(pairs.pixels)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(64))
    torch.testing.assert_close(model.encode_image(pairs.pixels[3:4])[0], features[3], atol=1e-5, rtol=1e-4)


def test_it_writes_scenes_that_it_learnt_by_heart_and_nothing_true_of_blank_ones(
    model: SimVLM, pairs: Batch, captions: list[str]
) -> None:
    fit(model, pairs, 160)
    pictures = list(pairs.pixels.permute(0, 2, 3, 1).numpy())
    said = [reply.text for reply in model.caption(pictures)]
    assert sum(a == b.lower() for a, b in zip(said, captions)) >= 40  # of 64
    grey = [picture * 0 + 128 for picture in pictures]
    assert sum(reply.text == b.lower() for reply, b in zip(model.caption(grey), captions)) <= 3


def test_one_checkpoint_captions_goes_on_and_answers(model: SimVLM, tmp_path: Path) -> None:
    batch = blocks(model)
    fit(model, batch, 150, lr=3e-3)
    pictures = list(batch.pixels[:4].permute(0, 2, 3, 1).numpy())
    said = [reply.text for reply in model.caption(pictures)]
    assert said == [f"there is a {name} block here" for name in COLOURS]
    begun = ["there is a", "there", "there is a blue", "there is"]
    rest = [reply.text for reply in model.complete(pictures, begun)]
    assert [f"{start} {end}" for start, end in zip(begun, rest)] == said
    answers = model.answer([[p] for p in pictures], ["", WHICH, "", WHICH])
    assert [reply.text for reply in answers] == [said[0], "green", said[2], "white"]

    # each alone as in the batch, whatever the other prompts' lengths
    assert [model.complete([p], [b])[0].text for p, b in zip(pictures, begun)] == rest
    alone = model.answer([[pictures[1]]], [WHICH])[0]
    assert alone.text == "green" and abs(alone.confidence - answers[1].confidence) < 1e-5
    assert model.answer([pictures[:2]], [WHICH])[0].reason == "too many pictures"
    _cached_equals_uncached(model, pictures)

    again = models.load(models.save(model, tmp_path / "saved"))
    assert [reply.text for reply in again.caption(pictures)] == said
    assert torch.equal(again.encode_image(batch.pixels), model.encode_image(batch.pixels))


@torch.no_grad()
def _cached_equals_uncached(model: SimVLM, pictures: list[torch.Tensor]) -> None:
    """Token for token: the decoder asked for the whole text at once gives the same next tokens."""
    words = model.processor.text
    prompts = words.prompts(["", WHICH, "", WHICH])
    texts = write(model.read([[p] for p in pictures], prompts), end=words.eos_id, most=20)
    for picture, prompt, text in zip(pictures, prompts, texts):
        pixels = torch.from_numpy(picture)[None].permute(0, 3, 1, 2)
        memory, _ = model.encode(pixels, torch.tensor([prompt]), torch.ones(1, len(prompt), dtype=torch.bool))
        spoken = torch.tensor([[words.bos_id, *text.tokens]])
        places = torch.arange(spoken.shape[1])[None] + len(prompt) - 1
        hidden = model.decoder(model.decoder.embed(spoken), positions=places, memory=memory)
        logs = model.decoder.logits(hidden)[0].log_softmax(dim=-1)
        wanted = [*text.tokens, words.eos_id]
        assert logs.argmax(dim=-1).tolist() == wanted
        given = logs.gather(1, torch.tensor(wanted)[:, None])[:, 0]
        torch.testing.assert_close(given, torch.tensor(text.log_probs), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("reader", ["encoder", "decoder"])
def test_an_answer_is_as_likely_in_use_as_in_training(captions: list[str], reader: str) -> None:
    config = dataclasses.replace(CONFIG, questions=reader)
    model = SimVLM.new(config, [*captions, QUESTION.format(WHICH), *COLOURS], seed=0).eval()
    pictures = list(blocks(model).pixels[:4].permute(0, 2, 3, 1).numpy())
    batch = model.processor.collate(list("abcd"), pictures, list(COLOURS), prompts=[WHICH] * 4)
    words = model.processor.text
    answers = [[words.plain([f" {name}"])[0]] for name in COLOURS]
    with torch.no_grad():
        losses = model(batch)
        logs = likelihoods(model.read([[p] for p in pictures], words.prompts([WHICH] * 4)), answers, end=words.eos_id)
    torch.testing.assert_close(float(losses.total * losses.terms), -sum(log for (log,) in logs), rtol=1e-4, atol=1e-4)
    assert losses.stats["prefix_tokens"] == (1 if reader == "decoder" else len(words.prompts([WHICH])[0]))


def test_a_question_that_the_decoder_reads_is_answered(captions: list[str]) -> None:
    config = dataclasses.replace(CONFIG, questions="decoder")
    model = SimVLM.new(config, [*captions, QUESTION.format(WHICH), *COLOURS], seed=0)
    batch = blocks(model)
    fit(model, batch, 150, lr=3e-3)
    pictures = list(batch.pixels[:4].permute(0, 2, 3, 1).numpy())
    replies = model.answer([[p] for p in pictures], ["", WHICH, "", WHICH])
    assert [reply.text for reply in replies] == [
        "there is a red block here", "green", "there is a blue block here", "white",
    ]  # fmt: skip
    begun = ["there is a", "there"]
    rest = [reply.text for reply in model.complete(pictures[:2], begun)]
    assert [f"{start} {end}" for start, end in zip(begun, rest)] == [replies[0].text, "there is a green block here"]
    assert model.answer([[]], [WHICH])[0].reason == "no picture"


@torch.no_grad()
def test_in_use_nothing_is_drawn_and_long_choices_have_room(model: SimVLM) -> None:
    batch = model.eval().processor.collate(["a"], [blocks(model).pixels[0].permute(1, 2, 0).numpy()], ["red block"])
    asked = torch.zeros_like(batch.token_mask)
    asked[:, 1] = True  # the first word alone
    one = dataclasses.replace(batch, target_mask=asked)
    assert len({float(model(one).total) for _ in range(9)}) == 1 and float(model(one).total) > 0
    picture = batch.pixels[0].permute(1, 2, 0).numpy()
    reply = model.answer([[picture]], [f"{'the block ' * 80}{WHICH}"], [["red " * 20, "blue"]])[0]
    assert reply.text in ("red " * 20, "blue")


@torch.no_grad()
def test_of_a_prompt_that_is_too_long_the_end_is_read(model: SimVLM) -> None:
    picture = blocks(model).pixels[0].permute(1, 2, 0).numpy()
    prompt = model.processor.text.prompts([f"{'the block ' * 80}{WHICH}"])[0]
    assert len(prompt) > 49
    ends = [prompt[0], *prompt[-48:]]  # 64 positions, 16 of them for the answer
    read = [model.eval().read([[picture]], [some]).hidden for some in (prompt, ends, ends[:1] + ends[2:])]
    assert torch.equal(read[0], read[1]) and not torch.allclose(read[0], read[2])
    with pytest.raises(InputError, match="expected at most 64 tokens"):
        model.encode(None, torch.zeros(1, 65, dtype=torch.long), torch.ones(1, 65, dtype=torch.bool))
