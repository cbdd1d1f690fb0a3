"""Frozen and Flamingo: what is true of both, with pictures anywhere in their text."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import diptych
from diptych import models
from diptych.capabilities import AnswersQuestions, WritesCaptions
from diptych.data.loader import Loader
from diptych.decoding import beam_search, write
from diptych.models.flamingo import Flamingo, FlamingoConfig
from diptych.models.frozen import Frozen, FrozenConfig
from diptych.models.interleaved import Interleaved, read_batch, read_prompts, widened
from diptych.processing import ImageConfig, TextProcessor, documents
from diptych.processing.documents import few_shot, place
from diptych.towers import DecoderConfig, HFLanguageConfig, ResNetConfig, ViTConfig
from diptych.towers.language_pretrained import load_language
from diptych.training.config import TrainConfig
from diptych.training.step import Stepper
from diptych.types import Batch, InputError, Message, Rejected

VISION = ViTConfig(image_size=32, patch_size=8, width=24, layers=1, heads=2, pooling="mean")
LM = DecoderConfig(vocab_size=400, context_length=200, width=32, layers=2, heads=2, positions="rotary")
SMALL = {"image": ImageConfig(size=32), "lm_tuning": "u"}
FROZEN = FrozenConfig(VISION, LM, prefix=3, **SMALL)
GRID = dataclasses.replace(FROZEN, seen="grid")
FLAMINGO = FlamingoConfig(VISION, LM, vision_tuning="u", latents=4, resampler_layers=1, heads=2, head_width=8, **SMALL)
MODELS = {"frozen": (Frozen, FROZEN), "grid": (Frozen, GRID), "flamingo": (Flamingo, FLAMINGO)}
Model = Frozen | Flamingo


def language(model: Model) -> Any:
    """The language model with all its tokens."""
    return model.language if isinstance(model, Flamingo) else model.lm


@pytest.fixture(scope="module")
def world():
    return diptych.open_dataset("scenes:?n=64&size=32&objects=1&detail=4")


@pytest.fixture(scope="module")
def episodes():
    return diptych.open_dataset("scenes:?n=12&size=32&objects=1-2&task=episodes")


@pytest.fixture(scope="module")
def texts(world, episodes):
    found = [caption for captions in world.column("captions") for caption in captions]
    return found + [piece.text for one in episodes.take(range(12)) for piece in documents.pieces(one.messages)]


@pytest.fixture(params=list(MODELS))
def model(request, texts) -> Model:
    """A model whose pictures matter: a Flamingo's gates are open."""
    cls, config = MODELS[request.param]
    made = cls.new(config, texts, seed=0).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith("gate"):
                parameter.fill_(0.5)
            elif "lm." in name or "to_prefix" in name:
                parameter.mul_(3 if parameter.ndim > 1 else 1)  # or nothing depends on anything yet
    return made


def batch_of(dataset, model: Model, size: int, texts: str) -> Batch:
    return next(Loader(dataset, model.processor, size, shuffle=False, drop_last=True, texts=texts).epoch(0))


def states(model: Model, text: Interleaved) -> tuple[Tensor, Interleaved]:
    """The last hidden states of a text without a cache, and the text as the language model sees it."""
    if isinstance(model, Frozen):
        x, text, positions = model.embed(text)
        return model.lm(x, positions=positions), text
    return language(model)(language(model).embed(text.tokens), before=model.looking(text)), text


def test_capabilities_and_registry(model: Model) -> None:
    assert isinstance(model, WritesCaptions) and isinstance(model, AnswersQuestions)
    assert models.family(type(model).__name__.lower()) is type(model)


def test_the_loss_by_hand(model: Model, episodes) -> None:
    batch = batch_of(episodes, model, 4, "documents")
    with torch.no_grad():
        losses = model(batch)
        hidden, text = states(model, read_batch(batch, place(model.processor.text)))
        logits = language(model).logits(hidden)
    terms = []
    for row in range(4):
        for t in range(1, text.tokens.shape[1]):
            if text.said[row, t]:
                assert text.keep[row, t] and not text.places[row, t]
                terms.append(-logits[row, t - 1].log_softmax(-1)[text.tokens[row, t]].item())
    assert len(terms) == int(batch.target_mask.sum())
    assert losses.total.item() == pytest.approx(np.mean(terms), rel=1e-4)


@pytest.mark.parametrize("name", list(MODELS))
def test_a_new_model_guesses(name: str, texts, world) -> None:
    cls, config = MODELS[name]
    model = cls.new(config, texts, seed=0).eval()
    losses = model(batch_of(world, model, 32, "captions"))
    assert losses.chance["loss/lm"] == pytest.approx(math.log(language(model).vocab_size))
    assert losses.total.item() == pytest.approx(losses.chance["loss/lm"], rel=0.03)


def test_a_pair_is_the_document_of_its_picture_and_text(model: Model, world) -> None:
    pairs = batch_of(world, model, 8, "both")
    alone = batch_of(world, model, 8, "documents")
    assert pairs.picture_of is None and alone.picture_of is not None
    torch.testing.assert_close(model(pairs).total, model(alone).total)


def test_no_token_sees_what_comes_after_it_nor_a_picture_that_does(model: Model, episodes) -> None:
    batch = batch_of(episodes, model, 1, "documents")
    text = read_batch(batch, place(model.processor.text))
    with torch.no_grad():
        hidden, wide = states(model, text)
        assert text.pixels is not None
        for picture in range(len(text.pixels)):
            pixels = text.pixels.clone()
            pixels[picture] = 255 - pixels[picture]
            changed, _ = states(model, text._replace(pixels=pixels))
            at = wide.places[0].nonzero()[:, 0]
            first = int(at[picture * len(at) // len(text.pixels)])
            assert torch.equal(changed[0, :first], hidden[0, :first])
            assert not torch.allclose(changed[0, first:], hidden[0, first:], atol=1e-4)
        tokens = text.tokens.clone()
        last = int(text.keep[0].sum()) - 1
        tokens[0, last] = 5
        changed, _ = states(model, text._replace(tokens=tokens))
        end = int(wide.keep[0].sum()) - 1
        torch.testing.assert_close(changed[0, :end], hidden[0, :end])


class Uncached:
    """A `decoding.Source` that reads everything again for each token."""

    def __init__(self, model: Model, pictures, prompts) -> None:
        self.model, self.pictures, self.rows = model, list(pictures), [list(prompt) for prompt in prompts]

    @property
    def hidden(self) -> Tensor:
        image = place(self.model.processor.text)
        rows = [
            row if image in row else row[:1] + [image] * len(p) + row[1:] for row, p in zip(self.rows, self.pictures)
        ]
        found = []
        for row, some in zip(rows, self.pictures):
            hidden, _ = states(self.model, read_prompts(self.model, [some], [row]))
            found.append(hidden[0, -1])
        return torch.stack(found)

    def logits(self) -> Tensor:
        return language(self.model).logits(self.hidden)

    def advance(self, tokens: Tensor) -> None:
        for row, token in zip(self.rows, tokens.tolist()):
            row.append(token)

    def select(self, rows: Tensor) -> None:
        self.rows = [list(self.rows[i]) for i in rows.tolist()]
        self.pictures = [self.pictures[i] for i in rows.tolist()]


def prompts_of(model: Model, dataset) -> tuple[list[list[np.ndarray]], list[list[int]]]:
    """Prompts of several lengths: a caption, a question, one about two pictures, solved examples, one without any."""
    words, (first, second) = model.processor.text, dataset.take([0, 4])
    decoded = [[model.processor.decode_image(image.data) for image in one.images] for one in (first, second)]
    asked = [few_shot(one.messages) for one in (first, second)]
    placed = documents.prompts(words, [one.prompt for one in asked])
    pictures = [decoded[0][:1], decoded[1][:1], decoded[0][:2], *decoded, []]
    return pictures, [*words.prompts(["", "What is this?", "which?"]), *placed, words.prompts(["Why?"])[0]]


def test_writing_with_a_cache_and_in_a_batch_equals_reading_everything_again(model: Model, episodes) -> None:
    pictures, prompts = prompts_of(model, episodes)
    with torch.no_grad():
        for end in (model.processor.text.eos_id, 40):  # rows that end early are taken out of the batch
            whole = write(model.read(pictures, prompts), end=end, most=12)
            slow = write(Uncached(model, pictures, prompts), end=end, most=12)
            alone = [
                write(model.read([some], [prompt]), end=end, most=12)[0] for some, prompt in zip(pictures, prompts)
            ]
            assert [one.tokens for one in whole] == [one.tokens for one in slow] == [one.tokens for one in alone]
            for one, other in zip(whole, slow):
                assert one.log_probs == pytest.approx(other.log_probs, abs=1e-4)
    assert len({tuple(one.tokens) for one in whole}) > 1


def test_beams_with_a_cache_and_in_a_batch_find_what_reading_again_finds(model: Model, episodes) -> None:
    pictures, prompts = prompts_of(model, episodes)
    how = {"end": model.processor.text.eos_id, "most": 8, "beams": 3, "best": 2}
    with torch.no_grad():
        whole = beam_search(model.read(pictures, prompts), **how)
        slow = beam_search(Uncached(model, pictures, prompts), **how)
        alone = [beam_search(model.read([some], [prompt]), **how)[0] for some, prompt in zip(pictures, prompts)]
    tokens = [[[text.tokens for text in row] for row in found] for found in (whole, slow, alone)]
    assert tokens[0] == tokens[1] == tokens[2]
    for one, other in zip(whole, slow):
        for text, same in zip(one, other):
            assert text.log_probs == pytest.approx(same.log_probs, abs=1e-4)
    assert len({tuple(row[0]) for row in tokens[0]}) > 1


def test_captions_answers_and_prompts_with_places(model: Model, episodes) -> None:
    sample = episodes.take([4])[0]
    pictures = [model.processor.decode_image(image.data) for image in sample.images]
    shots = few_shot(sample.messages, 1)
    own = [pictures[i] for i in shots.pictures]
    assert len(model.caption(pictures)) == len(pictures)
    one, two = model.answer([own, pictures[:1]], [shots.prompt, "What is this?"])
    assert not isinstance(one, Rejected) and not isinstance(two, Rejected)
    with pytest.raises(InputError, match="expected <image> for each of 1 pictures, got 2"):
        model.answer([own[:1]], [shots.prompt])


def test_accumulated_documents_equal_the_whole_batch(model: Model, episodes) -> None:
    batch = batch_of(episodes, model, 4, "documents")
    assert batch.picture_of is not None and len(batch.picture_of) > 8
    said = batch.target_mask.sum(dim=1)
    said[3] -= 2  # so that a mean of the pieces' means is not the mean
    batch.target_mask &= batch.target_mask.cumsum(dim=1) <= said[:, None]
    assert said[:3].float().mean() != said[3]
    gradients = []
    for micro in (None, 3):
        model.zero_grad()
        Stepper(model, TrainConfig(steps=1, micro_batch=micro, precision="fp32"), torch.device("cpu"))(batch, 0, [4])
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", list(MODELS))
def test_documents_of_which_no_picture_is_left_are_trained_on(name: str, texts) -> None:
    cls, config = MODELS[name]
    model = cls.new(config, texts, seed=0)
    model = cls(dataclasses.replace(model.config, lm_tuning="L"), model.processor)
    plain = [Message("assistant", "a red cube")]
    long = [Message("assistant", "a red cube " * 300 + documents.IMAGE)]  # its picture is cut off
    picture = np.zeros((32, 32, 3), dtype=np.uint8)
    for images, rows in ((None, [plain] * 4), ([picture], [plain] * 3 + [long])):
        batch = model.processor.collate(list("abcd"), images, None, documents=rows)
        assert batch.pixels is None and batch.picture_of is not None and not len(batch.picture_of)
        for micro in (None, 2):
            stepper = Stepper(model, TrainConfig(steps=1, micro_batch=micro, precision="fp32"), torch.device("cpu"))
            assert math.isfinite(stepper(batch, 0, [4])["loss"])


@pytest.mark.parametrize("name", list(MODELS))
def test_locked_parts_keep_every_bit_and_the_rest_moves(name: str, texts, episodes) -> None:
    cls, config = MODELS[name]
    model = cls.new(config, texts, seed=0)
    locked = {"lm_tuning": "L"} | ({"vision_tuning": "L"} if cls is Flamingo else {})
    model = cls(dataclasses.replace(model.config, **locked), model.processor)
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    frozen = ("lm.", "visual.") if cls is Flamingo else ("lm.",)
    assert not any(module.training for module in model.lm.modules())
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        model(batch_of(episodes, model, 4, "documents")).total.backward()
        optimizer.step()
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert not [key for key in moved if key.startswith(frozen)]
    unused = {"visual.final_norm.weight", "visual.final_norm.bias"}  # a grid is read before the last norm
    assert {key for key in before if not key.startswith(frozen)} - moved <= unused
    assert all(p.grad is None for key, p in model.named_parameters() if key.startswith(frozen))


def test_saved_and_loaded_it_says_the_same(model: Model, world, tmp_path: Path) -> None:
    batch = batch_of(world, model, 4, "both")
    loaded = models.load(models.save(model, tmp_path / "model"))
    assert torch.equal(loaded(batch).total, model(batch).total)
    assert place(loaded.processor.text) == place(model.processor.text)
    pictures = [model.processor.decode_image(one.images[0].data) for one in world.take(range(3))]
    assert loaded.caption(pictures) == model.caption(pictures)


@pytest.mark.parametrize(("name", "steps"), [("grid", 60), ("flamingo", 100)])  # a Flamingo's gates open first
def test_64_pictures_are_learnt_by_heart_and_blank_ones_are_not(name: str, steps: int, texts, world) -> None:
    cls, config = MODELS[name]
    vision = ResNetConfig(depths=(1, 1), stem_width=16, block="basic")
    lm = dataclasses.replace(LM, width=64)
    reached = []
    for blank in (False, True):
        model = cls.new(dataclasses.replace(config, vision=vision, lm=lm), texts, seed=0)
        batch = batch_of(world, model, 64, "captions")
        if blank:
            batch.pixels = torch.full_like(batch.pixels, 128)
        optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.98))
        model.train()
        for _ in range(steps):
            optimizer.zero_grad()
            loss = model(batch).total
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        reached.append(loss.item())
    seen, blind = reached
    assert seen < 0.5 * blind


def test_a_letter_and_its_address_must_fit(texts) -> None:
    for cls, config in MODELS.values():
        with pytest.raises(InputError, match="lm_address: expected an address for 'L'"):
            cls.new(dataclasses.replace(config, lm_tuning="L"), texts)
        with pytest.raises(InputError, match="lm_address: expected none for 'u'"):
            cls.new(dataclasses.replace(config, lm_address="somewhere"), texts)
        with pytest.raises(InputError, match="lm.kind: expected 'decoder'"):
            cls.new(dataclasses.replace(config, lm=HFLanguageConfig(config={"model_type": "gpt2"})), texts)


@pytest.fixture(scope="module")
def language_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of width 24 with a tokenizer of its own."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("language")
    words = TextProcessor.train(["a red square and a blue picture"] * 4, 290, 64)
    words.save(folder)
    size = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": words.bos_id, "eos_token_id": words.eos_id}
    torch.manual_seed(1)
    config = LlamaConfig(vocab_size=words.vocab_size, max_position_embeddings=64, **size, **ends)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("letter", ["L", "U"])
def test_pretrained_parts_by_address(
    name: str, letter: str, vision_folder: Path, language_folder: Path, world, tmp_path: Path
) -> None:
    cls, config = MODELS[name]
    addresses = {"vision_address": str(vision_folder), "lm_address": str(language_folder), "image": None}
    letters = {"lm_tuning": letter} | ({"vision_tuning": letter} if cls is Flamingo else {})
    model = cls.new(dataclasses.replace(config, **addresses, **letters), seed=0)
    state = load_language(language_folder).state_dict
    assert all(torch.equal(model.lm.state_dict()[key], value) for key, value in state.items())
    assert model.config.image is not None and model.config.image.size == 16 and model.visual.width == 24
    assert all(parameter.requires_grad == (letter == "U") for parameter in model.lm.parameters())
    batch = batch_of(world, model, 4, "documents")
    model.train()(batch).total.backward()
    loaded = models.load(models.save(model, tmp_path / "model"))
    assert torch.equal(loaded(batch).total, model.eval()(batch).total)


def test_each_place_is_widened_in_its_row() -> None:
    tokens = torch.tensor([[1, 9, 2, 9], [1, 3, 0, 0]])
    keep = torch.tensor([[True] * 4, [True, True, False, False]])
    text = Interleaved(tokens, keep, tokens == 2, tokens == 9, None)
    wide = widened(text, 3)
    assert wide.tokens.tolist() == [[1, 9, 9, 9, 2, 9, 9, 9], [1, 3, 0, 0, 0, 0, 0, 0]]
    assert wide.keep.sum(1).tolist() == [8, 2] and wide.places.sum(1).tolist() == [6, 0]
    assert wide.said.nonzero().tolist() == [[0, 4]]


@pytest.mark.parametrize("family", ["frozen", "flamingo"])
def test_documents_train_from_a_recipe_and_what_is_saved_answers_after_examples(family: str, tmp_path: Path) -> None:
    mixture = tmp_path / "mixture.toml"
    mixture.write_text(
        '[[parts]]\nname = "episodes"\ndata = "scenes:?n=16&size=32&objects=1-2&task=episodes"\n'
        '[[parts]]\nname = "pairs"\ndata = "scenes:?n=16&size=32&objects=1"\nweight = 0.5\n'
    )
    sizes = {"model.lm.vocab_size": "300", "model.lm.width": "24", "model.lm.layers": "2", "model.image.size": "32"}
    loader = {"loader.texts": "documents", "loader.batch_size": "6", "training.steps": "2"}
    made = diptych.recipe(family, preset="tiny", overrides=sizes | loader)
    trained = diptych.train(made, f"mix:{mixture}", tmp_path / "run", show="silent")
    assert trained.run is not None and trained.run.finished
    model = diptych.load(tmp_path / "run")
    sample = diptych.open_dataset("scenes:?n=16&size=32&objects=1-2&task=episodes").take([4])[0]
    shots = few_shot(sample.messages)
    pictures = [model.processor.decode_image(sample.images[i].data) for i in shots.pictures]
    assert len(pictures) > 2 and not isinstance(model.answer([pictures], [shots.prompt])[0], Rejected)
