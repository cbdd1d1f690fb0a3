"""Makes tokenizer.json.gz: what the tokenizer of COCO caption evaluation says of captions that are varied in every way.

    python tests/golden/tokenizer.py

Needs Java and the package pycocoevalcap, which carries the tokenizer. The captions are made here: sentences with
contractions, numbers, fractions, quotations, dashes, brackets, abbreviations, addresses, faces, accents, other scripts,
emoji and odd white space from the lists below; captions of the generated world; and strings of random signs. Between
captions stands a line of its own, because a caption with a line separator gives several lines, and pairing lines with
captions by their number would shift all that follow.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from random import Random

from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS, STANFORD_CORENLP_3_4_1_JAR

from diptych.data.scenes.describe import describe
from diptych.data.scenes.dials import dials_of
from diptych.data.scenes.sampling import sample_scene

SENTENCES, SCENES, STRINGS = 4200, 150, 1500
GOLDEN = Path(__file__).with_suffix(".json.gz")
BETWEEN = "zqbetweenzq"

PEOPLE = [
    "A man",
    "two women",
    "The little girl",
    "SEVERAL PEOPLE",
    "someone's dog",
    "a group of six kids",
    "An elderly couple",
]
ACTS = [
    "is riding",
    "sit near",
    "stands next to",
    "are playing with",
    "waits beside",
    "holds up",
    "looking at",
    "doesn't see",
]
THINGS = [
    "a red double-decker bus",
    "the kitchen sink",
    "an old clock",
    "pizza",
    "surfboards",
    "the mother-in-law",
    "it",
]
CONTRACTIONS = """
    can't cannot won't don't DON'T isn't it's It's they're we've she'll I'd I'm y'all he'd've couldn't've ain't
    shan't let's who's dog's dogs' James's boss' 'tis 'Twas 'em 'til 'cause rock'n'roll rock 'n' roll o'clock
    O'Brien d'Artagnan l'amour hallowe'en ma'am ne'er s'mores c'mon nor'easter ol' goin' playin' gonna wanna
    gotta gimme lemme dunno kinda 'bout jack-o'-lantern B'day cap'n it’s don’t won’t they’re we’ve dogs’ ’tis
    ’90s o’clock rock ’n’ roll D'oh Hawai'i Xi'an Qur'an whatcha more'n e'er f'real somebody'd this'll"""
NUMBERS = """
    1 12 007 1,000 12,345,678 1,00 3.14 .5 5. 1/2 3/4 24/7 11/22/2010 7-11 10-12 1990s '90s 1990's 80's 5'10" 6'
    4x4 2x4s 3D 3-D 1st 2nd 21st 10th 5k 10K 100% 99.9% $5 $5.00 $1,000 US$5 €20 £3.50 ¥100 5¢ 20°C -5 +5 ±2 1e6
    10:30 10:30pm 5am 5 a.m. 6p.m. 1:2:3 v1.2 1.2.3 #1 #12 No. 5 no. 7 fig. 3 pp. 12 3-year-old 10-foot
    1,000-piece 2.5-inch 1/2-inch ½ 1½ ¾-inch 2¼ ⅓ x² m³ H₂O 5×7 10–12 5—6 555-1212 1-800-555-1234 16:9 1080p
    4WD B-52 F-16s MP3 7/8 3⁄4 1'2 1,2,3 5.5.5 (1) 2)"""
ABBREVIATIONS = """
    U.S. U.S.A. U.K. e.g. i.e. etc. Mr. Mrs. Ms. Dr. Jr. Sr. St. Ave. Blvd. Rd. vs. vs Inc. Co. Corp. Ltd. Ph.D.
    a.m. P.M. Jan. Feb. Sept. Dec. Mon. Tues. Calif. Wash. Ill. ill. Tex. tex. Mass. approx. dept. Gen. Sen.
    Gov. Prof. Rev. lb. lbs. oz. ft. in. cm. mt. Ft. No. no. fig. R.I.P. J.K. J. A. x. D.C. N.Y.C. U.S.-based
    non-U.S. a.k.a. w/o w/ c/o b/w AT&T R&B Q&A B&B M&M's PB&J r&b H&M C++ C# A+ A+B TV tv iPhone eBay vs.the
    Mr.Smith"""
SIGNS = """
    ( ) [ ] { } (blurry) [sic] {x} ((two)) () - -- --- ----- – — ― . .. ... .... ..... …… … ! !! !!! ? ?! !? ???
    , ; : " ' '' `` ` "quoted" 'single' “curly” ‘curly’ «angular» ‹x› „low“ ‚low‘ "half half" \\" \\ / // | || *
    ** _ __ ~ ^ @ # ## & && % + = == < > << >> <- -> => <= § ¶ © ® ™ ° • · † ¿ ¡ ¦ ¬ ´ ¨ × ÷ ± µ ª º № ★ ♥ ☺ ✓ ←
    → ↔ ∞ ≈ ≠ ≤ ♪ ■ ◆ 、 。 「x」 ！ ？ ， （x） ～ ・ - a--b x...y x…y end.Next end,next end;next this/that a//b a\\b
    snake_case a_b-c x=y a+b 50%off"""
WEB = """
    http://example.com https://www.example.com/a/b.html?x=1&y=2#z www.example.com www.example.co.uk example.com
    example.org/about flickr.com/photos photo.jpg IMG_1234.JPG dsc0001.jpg readme.txt file.tar.gz me@example.com
    first.last@example.co.uk @user @user_name #hashtag #tag_two #1 <b>bold</b> <br/> <br /> <unk> <UNK> <start>
    <end> <a href="x">link</a> <!--note--> &amp; &lt;b&gt; &quot;x&quot; &#39; it&apos;s &nbsp; caf&eacute;
    AT&amp;T &mdash; :) :-) ;) :( :D :P =) :] :'( <3 ^_^ -_- o_O T_T (^_^) XD :o)"""
WORDS = """
    naïve café façade Zoë São Paulo Köln Ærø Łódź Đà Nẵng piñata jalapeño crème brûlée Ελλάδα Αθήνας ΣΟΦΟΣ
    Москва привет мир мама-папа 東京 東京タワー カタカナ ひらがな
    你好，世界。 中文 한국어 서울 مرحبا بالعالم שָׁלוֹם שלום नमस्ते दुनिया
    ไทย สวัสดี Tiếng Việt İstanbul ǅ ßtraße ﬁsh ｆｕｌｌ １２３ ٣٤ naı̈ve cafe\u0301 e\u0301clair t-shirt T-Shirts
    well-known state-of-the-art x-ray e-mail re-enter -ish pre- non-é twenty-one co‐op co‑op ice-cream's
    Coca-Cola® Xbox360 WiFi Wi-Fi OK ok. O.K. a I A i"""
EMOJI = """
    😀 🐱 🐶🐶 👨\u200d👩\u200d👧 ❤️ ❤ 👍🏽 🇺🇸 1️⃣
    ☀️ 🏄\u200d♂️ cat🐱 🐱cat 🍕! 𝒜 𠀀 ⚽ ✈ ✨"""
SPACES = [" "] * 30 + ["  ", "   ", "\t", "\u00a0", "\u2003", "\u3000", "\u200b", "\u2009", "\ufeff", " \t "]
ENDS = ["."] * 6 + ["", "", "", " .", "!", "?", "...", ",", ";", " ...", '."', "''", ".)", "!!", " -", "…", "..", "'"]


def main() -> None:
    captions = list(dict.fromkeys(sentences() + scenes() + strings()))
    tokens = run_tokenizer(captions)
    rows = [[caption, text] for caption, text in zip(captions, tokens)]
    text = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
    GOLDEN.write_bytes(gzip.compress(text.encode("utf-8"), 9, mtime=0))
    print(f"{len(rows)} captions, {GOLDEN.stat().st_size / 1024:.0f} KiB")


def sentences() -> list[str]:
    """Ordinary captions with one to three unusual things somewhere."""
    lists = [text.split() for text in (CONTRACTIONS, NUMBERS, ABBREVIATIONS, SIGNS, WEB, WORDS, EMOJI)]
    made = []
    for number in range(SENTENCES):
        random = Random(f"sentence {number}")
        words = " ".join([random.choice(PEOPLE), random.choice(ACTS), random.choice(THINGS)]).split()
        for _ in range(random.randint(1, 3)):
            unusual = random.choice(random.choice(lists))
            if random.random() < 0.15:
                unusual = random.choice(
                    ['"{}"', "({})", "'{}'", "{},", "{}.", "“{}”", "{}'s", "{}-{}", "{}/{}", "[{}]"]
                ).format(unusual, random.choice(words))
            words.insert(random.randint(0, len(words)), unusual)
        text = "".join(word + random.choice(SPACES) for word in words[:-1]) + words[-1] + random.choice(ENDS)
        made.append(random.choice([str, str, str, str.upper, str.lower, str.title])(text))
    return made


def scenes() -> list[str]:
    """Captions of the generated world."""
    dials = dials_of({})
    return [text for index in range(SCENES) for text in describe(sample_scene(dials, index), dials, index).captions]


def strings() -> list[str]:
    """Strings of few signs and letters, where patterns meet."""
    alphabets = [
        "ab A 7 . -",
        "ab K 7 / - _",
        "k ab ! ? . ,",
        "7 12 , . : / -",
        "a E ' nt s",
        "b ' n't 's 'll 5",
        "’ ‘ ' s b",
    ]
    alphabets += [
        "A b & + $ #",
        ": ; = ( ) D P o - '",
        "< > a b / =",
        "$ € 5 US % ½ ² . -",
        "1 ( ) - 123 4567",
        "\" ` ' a .",
    ]
    made = []
    for number in range(STRINGS):
        random = Random(f"string {number}")
        signs = random.choice(alphabets).split(" ") + [" "]
        made.append("a dog " + "".join(random.choices(signs, k=random.randint(2, 7))) + " here")
    return made


def run_tokenizer(captions: list[str]) -> list[str]:
    """What pycocoevalcap makes of captions, each for itself."""
    package = find_spec("pycocoevalcap")
    assert package is not None and package.submodule_search_locations
    jar = Path(package.submodule_search_locations[0]) / "tokenizer" / STANFORD_CORENLP_3_4_1_JAR
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as file:
        file.writelines(f"{caption}\n{BETWEEN}\n" for caption in captions)
        file.flush()
        command = ["java", "-Dfile.encoding=UTF-8", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
        command += ["-preserveLines", "-lowerCase", file.name]
        lines = subprocess.run(command, capture_output=True, check=True).stdout.decode("utf-8").split("\n")
    found: list[list[str]] = [[]]
    for line in lines:
        if line.rstrip() == BETWEEN:
            found.append([])
        else:
            found[-1] += [word for word in line.rstrip().split(" ") if word not in PUNCTUATIONS]
    assert len(found) == len(captions) + 1, "the tokenizer lost a caption"
    return [" ".join(words) for words in found[:-1]]


if __name__ == "__main__":
    main()
