"""Image-text-to-text models of transformers as ours: replies, likelihoods and confidences equal to doing it by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from tiny_hf import IDS, SQUARE, TEXT, VISION, WORDS, save_model, save_tokenizer

import diptych
from diptych.capabilities import AnswersQuestions, DualEncoder, WritesCaptions
from diptych.models import load
from diptych.models.hf_writer import ANSWER_TOKENS, CAPTION_TOKENS
from diptych.tasks.match import ASK
from diptych.types import InputError

LANGUAGE = {**TEXT, **IDS, "num_key_value_heads": 2, "max_position_embeddings": 512}
CHAT = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}on<image>the{% else %} "
    "{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %} Answer :{% endif %}"
)
QUESTIONS = ["a red car ?", "the dog ?", "a blue car ?"]


def llava(folder: Path, chat: str | None = CHAT) -> Any:
    """A Llama that reads CLIP's patches, asked in a chat."""
    image = hf.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE)
    hf.LlavaProcessor(
        image,
        save_tokenizer(folder, 512, "<bos> $A"),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat,
    ).save_pretrained(folder)
    config = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(**VISION),
        text_config=hf.LlamaConfig(**LANGUAGE),
        image_token_index=4,
        vision_feature_layer=-1,
    )
    return save_model(folder, lambda: hf.LlavaForConditionalGeneration(config))


def qwen2_vl(folder: Path) -> Any:
    """Patches in one long row, positions of three kinds, and a processor for videos, which needs torchvision."""
    save_tokenizer(folder, 512, "<bos> $A", extra_special_tokens={"image_token": "<image>", "video_token": "of"})
    image = hf.Qwen2VLImageProcessorPil(
        patch_size=8, merge_size=2, temporal_patch_size=2, size={"shortest_edge": 1024, "longest_edge": 4096}
    )
    (folder / "chat_template.jinja").write_text(CHAT)
    config = hf.Qwen2VLConfig(
        text_config={**LANGUAGE, "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}},
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "patch_size": 8, "mlp_ratio": 2},
        image_token_id=4,
        video_token_id=21,
        vision_start_token_id=20,
        vision_end_token_id=19,
    )
    return save_model(folder, lambda: hf.Qwen2VLForConditionalGeneration(config), image)


def paligemma(folder: Path) -> Any:
    """No chat; the processor itself puts the picture first, and its prompt sees itself in both directions."""
    image = hf.SiglipImageProcessorPil(size=SQUARE)
    image.image_seq_length = 16
    hf.PaliGemmaProcessor(image, save_tokenizer(folder, 512, "<bos> $A")).save_pretrained(folder)
    gemma = {**LANGUAGE, "vocab_size": 1200, "head_dim": 8}
    config = hf.PaliGemmaConfig(
        vision_config=hf.SiglipVisionConfig(**VISION), text_config=gemma, image_token_id=4, projection_dim=32
    )
    return save_model(folder, lambda: hf.PaliGemmaForConditionalGeneration(config))


def blip(folder: Path) -> Any:
    """No chat, no mark for the picture, a text decoder that attends to it, and one picture only."""
    words = save_tokenizer(folder, 128, "<bos> $A <eos>")
    hf.BlipProcessor(hf.BlipImageProcessorPil(size=SQUARE), words).save_pretrained(folder)
    text = {**TEXT, **IDS, "sep_token_id": 2, "max_position_embeddings": 128}
    config = hf.BlipConfig(text_config=text, vision_config=VISION, projection_dim=24)
    return save_model(folder, lambda: hf.BlipForConditionalGeneration(config))


FAMILIES = {"llava": llava, "qwen2_vl": qwen2_vl, "paligemma": paligemma, "blip": blip}


@pytest.fixture(scope="module")
def pictures() -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((40, 50), (50, 40), (32, 32))]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any]]:
    """Name -> (theirs, ours)."""
    folders = {name: tmp_path_factory.mktemp(name) for name in FAMILIES}
    return {name: (build(folders[name]), load(folders[name])) for name, build in FAMILIES.items()}


def by_hand(theirs: Any, ours: Any, prompt: str, picture: Any, most: int, **options: Any) -> tuple[Any, list[int], Any]:
    """Inputs, new tokens and the logits of each, from `generate` alone."""
    mark = {"paligemma": "<image>", "blip": ""}.get(theirs.config.model_type)
    text = f"on<image>the {prompt} Answer :" if mark is None else mark + prompt
    inputs = ours.words(text=text, images=Image.fromarray(picture), return_tensors="pt")
    out = theirs.generate(
        **inputs, max_new_tokens=most, do_sample=False, output_logits=True, return_dict_in_generate=True, **options
    )
    return inputs, out.sequences[0, -len(out.logits) :].tolist(), torch.stack(out.logits, dim=1)[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_replies_are_those_of_generate(name: str, made: dict[str, Any], pictures: list[Any]) -> None:
    theirs, ours = made[name]
    assert isinstance(ours, WritesCaptions) and isinstance(ours, AnswersQuestions) and not isinstance(ours, DualEncoder)
    found = diptych.answer(ours, pictures, QUESTIONS, precision="fp32").replies
    found += diptych.caption(ours, pictures, precision="fp32").replies
    prompts = [ours.question_prompt.format(question) for question in QUESTIONS] + [ours.caption_prompt] * 3
    for i, (reply, prompt) in enumerate(zip(found, prompts)):
        most = ANSWER_TOKENS if i < 3 else CAPTION_TOKENS
        _, tokens, logits = by_hand(theirs, ours, prompt, pictures[i % 3], most)
        length = tokens.index(2) + 1 if 2 in tokens else len(tokens)
        kept = [WORDS[token] if token < len(WORDS) else "" for token in tokens[:length]]
        assert reply.text.split() == [word for word in kept if word and not word.startswith("<")]
        logs = logits.log_softmax(-1)[range(length), tokens[:length]]
        assert reply.confidence == pytest.approx(float(logs.mean().exp()), rel=1e-4)
    assert ours.chats == (name in ("llava", "qwen2_vl"))


@pytest.mark.parametrize("name", FAMILIES)
def test_choices_by_likelihood(name: str, made: dict[str, Any], pictures: list[Any]) -> None:
    """Each choice is written token by token by a second program, `generate` with a constraint of its own."""
    theirs, ours = made[name]
    choices = ["red", "red car", "blue bird dog", "no"]
    found = diptych.answer(ours, pictures, QUESTIONS, choices, precision="fp32").replies
    for picture, question, reply in zip(pictures, QUESTIONS, found):
        likelihood = {}
        for choice in choices:
            ids = [WORDS.index(word) for word in choice.split()]
            start = None

            def only(batch: int, tokens: Any, ids: list[int] = ids) -> list[int]:
                nonlocal start
                start = len(tokens) if start is None else start
                return [ids[len(tokens) - start]]

            prompt = ours.question_prompt.format(question)
            _, tokens, logits = by_hand(theirs, ours, prompt, picture, len(ids), prefix_allowed_tokens_fn=only)
            assert tokens == ids
            likelihood[choice] = float(logits.log_softmax(-1)[range(len(ids)), ids].double().sum().exp())
        likelihood["red"] -= likelihood["red car"]  # "red" and nothing more
        best = max(likelihood, key=likelihood.__getitem__)
        assert reply.text == best
        assert reply.confidence == pytest.approx(likelihood[best] / sum(likelihood.values()), rel=1e-4)


def test_choices_against_one_pass_over_the_whole_text(made: dict[str, Any], pictures: list[Any]) -> None:
    theirs, ours = made["llava"]
    scores = []
    for choice in ("red car", "blue bird dog"):
        text = f"on<image>the {QUESTIONS[0]} Answer : {choice}"
        inputs = ours.words(text=text, images=Image.fromarray(pictures[0]), return_tensors="pt")
        with torch.no_grad():
            logs = theirs(**inputs).logits[0].log_softmax(-1)
        count = len(choice.split())
        ids = inputs["input_ids"][0, -count:]
        scores.append(float(logs[-count - 1 : -1].gather(1, ids[:, None]).sum()))
    expected = torch.softmax(torch.tensor(scores), 0)
    reply = diptych.answer(ours, pictures[:1], QUESTIONS[:1], ["red car", "blue bird dog"], precision="fp32").replies[0]
    assert reply == (
        ["red car", "blue bird dog"][int(expected.argmax())],
        pytest.approx(float(expected.max()), rel=1e-4),
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_an_answer_does_not_depend_on_what_else_is_asked(name: str, made: dict[str, Any], pictures: list[Any]) -> None:
    _, ours = made[name]
    images, questions = [*pictures, pictures[0]], [*QUESTIONS, "a car ?"]
    together = diptych.answer(ours, images, questions, [[], ["yes", "no"], [], []], precision="fp32").replies
    for i, (image, question) in enumerate(zip(images, questions)):
        options = ["yes", "no"] if i == 1 else None
        alone = diptych.answer(ours, [image], [question], options, precision="fp32").replies[0]
        assert alone.text == together[i].text
        assert alone.confidence == pytest.approx(together[i].confidence, rel=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_several_pictures(name: str, made: dict[str, Any], pictures: list[Any]) -> None:
    _, ours = made[name]
    images = [pictures[:2], pictures[:1], [pictures[0], pictures[2]], pictures[1::-1]]
    found = diptych.answer(ours, images, ["the dog ?"] * 4, ["yes", "no"], precision="fp32")
    if name == "blip":
        assert found.kept == [1] and {bad.reason for bad in found.rejected} == {"too many pictures"}
        return
    assert found.kept == [0, 1, 2, 3]
    assert len({reply.confidence for reply in found.replies}) == 4, "the second picture is seen, and their order"


def test_match_by_yes_and_no(made: dict[str, Any], pictures: list[Any]) -> None:
    _, ours = made["llava"]
    found = diptych.match(ours, pictures[:2], [["a red car", "a dog"], []], precision="fp32")
    for score, text in zip(found.scores[0], ("a red car", "a dog")):
        reply = diptych.answer(ours, pictures[:1], [ASK.format(text)], ["yes", "no"], precision="fp32").replies[0]
        assert score == pytest.approx(reply.confidence if reply.text == "yes" else 1 - reply.confidence, rel=1e-4)
    assert len(found.scores[1]) == 0


def test_a_chat_that_writes_the_first_token_gets_no_second(tmp_path: Path, pictures: list[Any]) -> None:
    llava(tmp_path, "{{ bos_token }}" + CHAT)
    ours = load(tmp_path)
    ids = ours._inputs(pictures[:1], "a red car ?")["input_ids"][0].tolist()
    assert ids.count(1) == 1 and ids[0] == 1 and ids.count(4) == 16


def test_bfloat16_is_near(made: dict[str, Any], pictures: list[Any]) -> None:
    _, ours = made["llava"]
    exact, fast = (
        diptych.answer(ours, pictures, QUESTIONS, ["yes", "no"], precision=precision).replies
        for precision in ("fp32", "bf16")
    )
    for a, b in zip(exact, fast):
        yes = [reply.confidence if reply.text == "yes" else 1 - reply.confidence for reply in (a, b)]
        assert yes[0] == pytest.approx(yes[1], abs=0.05)


def test_a_choice_without_tokens_is_rejected(made: dict[str, Any], pictures: list[Any]) -> None:
    _, ours = made["llava"]
    replies = ours.answer([pictures[:1]] * 2, ["the dog ?"] * 2, [["yes", " "], ["yes", "no"]])
    assert replies[0].reason == "model cannot take it" and replies[1].text in ("yes", "no")


def test_prompts_can_be_set(made: dict[str, Any], pictures: list[Any]) -> None:
    _, ours = made["blip"]
    before = diptych.caption(ours, pictures, precision="fp32").replies
    try:
        ours.caption_prompt = "the blue car on"
        assert diptych.caption(ours, pictures, precision="fp32").replies != before
    finally:
        ours.caption_prompt = "a photo of"


def test_folders_that_are_wrong_get_a_sentence(tmp_path: Path) -> None:
    llava(tmp_path, None)
    assert not load(tmp_path).chats
    kept = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def says(message: str) -> None:
        with pytest.raises(InputError, match=message) as caught:
            load(tmp_path)
        assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)

    settings = json.loads(kept["processor_config.json"])
    (tmp_path / "processor_config.json").write_text(json.dumps(settings | {"patch_size": 16}))
    says("the model cannot be asked about a picture: .*tokens")
    (tmp_path / "processor_config.json").unlink()
    says("expected preprocessor_config.json")
    (tmp_path / "processor_config.json").write_bytes(kept["processor_config.json"])
    raw = json.loads(kept["config.json"])
    (tmp_path / "config.json").write_text(json.dumps(raw | {"text_config": raw["text_config"] | {"hidden_size": 48}}))
    says("transformers cannot load it: ")
