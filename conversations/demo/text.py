"""Text that looks like what people and models write, from a seed: rare and common words, many languages, code."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from random import Random
from typing import Any

HERE = Path(__file__).parent

# What a benchmark may search for. One message in so many has it; each is in any data set that has a few messages.
RARE_WORD, RARE_EVERY = "quokka", 20_000
PHRASE, PHRASE_EVERY = "sliding window", 1_000  # either word is about, too
CJK_WORD, CJK_EVERY = "灯塔", 2_000
COMMON_WORD = "database"

TAPE = 10
"""So many times the words of a language, drawn once by how common they are. To read on from anywhere there is far
faster than to draw each word when it is needed."""


@dataclass(frozen=True, slots=True)
class Language:
    name: str
    share: int
    openings: list[str]
    tape: list[str]
    joint: str = " "
    full_stop: str = "."

    def sentence(self, random: Random, fewest: int = 5, most: int = 22, knowing: str = "") -> str:
        """One of so many words, `knowing` among them."""
        length = fewest + int(random.random() * (most - fewest))
        start = int(random.random() * (len(self.tape) - length))
        words = self.tape[start : start + length]
        if knowing:
            words.insert(length // 2, knowing)
        if length > 12:
            words[length // 2 - 1] += "，" if self.full_stop == "。" else ","  # noqa: RUF001
        said = self.joint.join(words)
        return said[0].upper() + said[1:] + self.full_stop

    def question(self, random: Random) -> str:
        opening = random.choice(self.openings)
        said = self.sentence(random, 3, 12)[:-1]
        return f"{opening}{self.joint}{said[0].lower()}{said[1:]}?"

    def paragraph(self, random: Random, most: int = 6) -> str:
        return (" " if self.joint else "").join(self.sentence(random) for _ in range(1 + int(random.random() * most)))


class TextMaker:
    def __init__(self, random: Random) -> None:
        self._random = random
        told = tomllib.loads((HERE / "words.toml").read_text(encoding="utf-8"))
        self._nouns: list[str] = told["english"]["stems"].split()
        self._verbs = self._nouns[:20]
        self.languages = [_language(name, random, **facts) for name, facts in told.items()]
        self._shares = list(accumulate(language.share for language in self.languages))
        self._by_name = {language.name: language for language in self.languages}
        self._blocks = [
            (block["language"], block["code"].strip())
            for block in tomllib.loads((HERE / "code.toml").read_text())["blocks"]
        ]

    def language(self) -> Language:
        return self._random.choices(self.languages, cum_weights=self._shares)[0]

    def knowing(self, number: int) -> str:
        """A sentence with what is to be found in the message of this number; mostly there is none."""
        for word, every, place, language in (
            (RARE_WORD, RARE_EVERY, 0, "english"),
            (PHRASE, PHRASE_EVERY, 1, "english"),
            (CJK_WORD, CJK_EVERY, 2, "chinese"),
        ):
            if number % every == place:
                return self._by_name[language].sentence(self._random, knowing=word)
        return ""

    def asked(self, language: Language) -> str:
        """What a user writes: mostly short, now and then with something pasted."""
        random, chance = self._random, self._random.random()
        question = language.question(random)
        if chance < 0.6:
            return question
        if chance < 0.88:
            return f"{language.paragraph(random, 3)} {question}"
        if chance < 0.95:
            return f"{question}\n\n{self._code()}"
        return f"{question}\n\n" + "\n\n".join(language.paragraph(random) for _ in range(3))

    def replied(self, language: Language) -> str:
        random, chance = self._random, self._random.random()
        if chance < 0.2:
            return language.paragraph(random, 2)
        if chance < 0.65:
            return "\n\n".join(language.paragraph(random) for _ in range(2 + int(random.random() * 3)))
        return "\n\n".join(self._parts(language, long=chance > 0.97))

    def thought(self, language: Language) -> str:
        return language.paragraph(self._random)

    def _parts(self, language: Language, long: bool) -> Iterator[str]:
        random = self._random
        yield language.paragraph(random, 3)
        for number in range(1, 8 if long else 2):
            if long:
                yield f"## {number}. {language.sentence(random, 2, 6)[:-1]}"
            yield self._listing(language) if random.random() < 0.55 else self._code()
            yield language.paragraph(random, 4)

    def _listing(self, language: Language) -> str:
        random = self._random
        items = (language.sentence(random, 4, 14) for _ in range(3 + int(random.random() * 4)))
        if random.random() < 0.5:
            return "\n".join(f"- {item}" for item in items)
        return "\n".join(f"{number}. **{self._noun()}**: {item}" for number, item in enumerate(items, start=1))

    def _code(self) -> str:
        random = self._random
        language, code = random.choice(self._blocks)
        noun, thing = self._noun(), self._noun()
        filled = code.format(
            verb=random.choice(self._verbs),
            noun=noun,
            thing=thing,
            Noun=noun.capitalize(),
            Thing=thing.capitalize(),
            number=int(random.random() * 500),
            words=self.languages[0].sentence(random, 3, 8)[:-1],
        )
        return f"```{language}\n{filled}\n```"

    def _noun(self) -> str:
        return self._random.choice(self._nouns)


def _language(name: str, random: Random, share: int, openings: str, **facts: Any) -> Language:
    words = facts["words"].split() if "words" in facts else list(_english(**facts))
    # As in any language, the second word is half as frequent as the first, the third a third …
    weights = accumulate(1 / (rank + 2.7) for rank in range(len(words)))
    tape = random.choices(words, cum_weights=list(weights), k=TAPE * len(words) + 10_000)
    marks = {key: facts[key] for key in ("joint", "full_stop") if key in facts}
    return Language(name, share, openings.split("|"), tape, **marks)


def _english(common: str, stems: str, prefixes: str, suffixes: str) -> Iterator[str]:
    """The common words, then the stems, then what can be made of these: some 20,000."""
    yield from dict.fromkeys(common.split())
    yield from stems.split()
    yield from (stem + suffix for suffix in suffixes.split() for stem in stems.split())
    for prefix in prefixes.split():
        for suffix in ["", *islice(suffixes.split(), 8)]:
            yield from (prefix + stem + suffix for stem in stems.split())
