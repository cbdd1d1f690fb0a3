"""Text as it comes: characters in several tokens, stop strings."""

import pytest
import torch
from known import LLAMA, Told, prompted, sharp

from diptych.decoding import Pieces, Sample, before_stop, stop_at, stream, write
from diptych.processing import TextProcessor

TEXT = "a café 🙂 naïve 東京 ok"
WORDS = TextProcessor.train(["a dog", "a cat"], 300, 64)


def tokens_of(text: str) -> list[int]:
    return WORDS.plain([text])[0]


def pieces_of(text: str, *stops: str) -> tuple[list[str], str, Pieces]:
    pieces = Pieces(WORDS.decode, stops)
    given = []
    for token in tokens_of(text):
        given.append(pieces.push(token))
        if pieces.stopped:
            break
    return given, pieces.finish(), pieces


def test_no_character_is_split() -> None:
    given, rest, _ = pieces_of(TEXT)
    assert "".join(given) + rest == TEXT
    assert not any("\ufffd" in piece for piece in given) and given.count("") >= 3  # bytes that had to wait
    assert "🙂" in "".join(given).split(" ")


def test_a_broken_end_is_shown_as_the_decoder_shows_it() -> None:
    pieces = Pieces(WORDS.decode)
    half = tokens_of("a 🙂")[:-1]
    given = [pieces.push(token) for token in half]
    assert "".join(given) == "a " or "".join(given) == "a"
    assert "".join(given) + pieces.finish() == WORDS.decode(half)


@pytest.mark.parametrize(
    ("text", "stops", "wanted"),
    [
        ("a dog. a cat.", [". a"], "a dog"),
        ("a dog. b cat.", [". a"], "a dog. b cat."),  # only begun
        ("a dog. b cat.", [". b", "dog"], "a "),  # the first one counts
        ("xxab", ["xxxab", "xab"], "x"),  # begun twice at once
        ("a dog.", [". "], "a dog."),  # never came
        ("a dog", [""], "a dog"),
        ("東京", ["京"], "東"),
    ],
)
def test_stop_strings(text: str, stops: list[str], wanted: str) -> None:
    given, rest, pieces = pieces_of(text, *stops)
    assert "".join(given) + rest == wanted
    assert pieces.stopped == any(stop and stop in text for stop in stops)
    assert before_stop(text, stops) == wanted
    assert stop_at(stops, WORDS.decode)(tokens_of(text)) == pieces.stopped


def saying(text: str) -> Told:
    """A source that says this text, then the end."""
    said = [*tokens_of(text), WORDS.eos_id]

    def after(written: tuple[int, ...]) -> list[float]:
        return [float(token == said[min(len(written), len(said) - 1)]) for token in range(WORDS.vocab_size)]

    return Told(after)


def test_stream_gives_what_write_gives() -> None:
    lm, rule = sharp(LLAMA), Sample(seed=2)
    text = write(prompted(lm, [[3, 4]]), end=0, most=12, rule=rule)[0]
    pieces = list(
        stream(
            prompted(lm, [[3, 4]]),
            lambda tokens: "".join(map(chr, (97 + t for t in tokens))),
            end=0,
            most=12,
            rule=rule,
        )
    )
    assert "".join(pieces) == "".join(chr(97 + token) for token in text.tokens) and len(pieces) == len(text.tokens)


def test_stream_ends_limits_and_stops() -> None:
    assert "".join(stream(saying(TEXT), WORDS.decode, end=WORDS.eos_id, most=99)) == TEXT
    assert "".join(stream(saying("a dog runs"), WORDS.decode, end=WORDS.eos_id, most=99, stops=["run"])) == "a dog "
    source = saying("a dog runs")
    assert "".join(stream(source, WORDS.decode, end=WORDS.eos_id, most=2)) == WORDS.decode(tokens_of("a dog runs")[:2])
    assert source.computed == [1]  # what follows the last token is not computed
    source = saying("a dog runs")
    assert next(stream(source, WORDS.decode, end=WORDS.eos_id, most=99)) == "a" and source.computed == []


def test_stop_strings_end_rows_of_a_batch() -> None:
    source = saying("a dog runs")
    source.texts = [(), ()]
    texts = write(source, end=WORDS.eos_id, most=99, until=stop_at(["run"], WORDS.decode))
    assert [before_stop(WORDS.decode(text.tokens), ["run"]) for text in texts] == ["a dog "] * 2
    assert all(text.ended for text in texts)


def test_gradients_are_left_alone_between_pieces() -> None:
    for _ in stream(saying("a dog"), WORDS.decode, end=WORDS.eos_id, most=9):
        assert torch.is_grad_enabled()
