"""Generated grade-school problems in GSM8K's format.

A template is a question and its worked steps. Letters a, b, c, d are numbers, r1 and r2 the results of earlier steps, and
[a*b] in a step becomes `a*b=<<a*b=c>>c`. Nothing here comes from a benchmark: every problem is generated.

Splits are drawn by a hash of template and numbers, so what is held out is not a name but a computation: no problem of
dev or test differs from one of train in its names and things alone.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property

from raybridge.data import Problem, Split

NAMES = "Ada Ben Cleo Dan Eve Finn Gia Hugo Ivy Jack Kira Leo Mia Noah Olga Paul Rosa Sam Tina Uma Vera Will Yara Zoe".split()
THINGS = "apples books cards coins eggs flowers games hats jars kites lamps maps nuts pens pies rings shells stamps stones toys".split()
HOLDERS = "bags boxes crates shelves trays tins".split()
LARGEST = 400  # no number of a problem is larger
EXHAUSTED = 200  # draws in a row without a new problem after which a split has hardly any left


@dataclass(frozen=True, kw_only=True)
class Template:
    """A question and its steps; `most` bounds the letters that are to stay small."""

    question: str
    steps: tuple[str, ...]
    most: dict[str, int] = field(default_factory=dict)

    @cached_property
    def letters(self) -> list[str]:
        """The numbers that are drawn."""
        return sorted(set(re.findall(r"\{([abcd])\}", self.question)))

    @cached_property
    def sums(self) -> list[tuple[str, str, str]]:
        """What each step works out: a number, what is done, another number."""
        matches = [re.search(r"\[(\w+)([-+*/])(\w+)\]", step) for step in self.steps]
        return [(match[1], match[2], match[3]) for match in matches if match]


SMALL = {"b": 9, "c": 9, "d": 9}
TEMPLATES = (
    # one step
    Template(question="{name} has {a} {thing} and gets {b} more. How many {thing} does {name} have?",
             steps=("{name} has [a+b] {thing}.",), most={"a": 60, "b": 60}),
    Template(question="{name} had {a} {thing} and lost {b}. How many {thing} are left?",
             steps=("{name} has [a-b] {thing} left.",), most={"a": 90, "b": 60}),
    Template(question="Each of {a} {holder} holds {b} {thing}. How many {thing} are there?",
             steps=("There are [a*b] {thing}.",), most={"a": 20, "b": 12}),
    Template(question="{name} shares {a} {thing} equally among {b} friends. How many does each friend get?",
             steps=("Each friend gets [a/b] {thing}.",), most={"a": 120, "b": 12}),
    # two steps
    Template(question="{name} has {a} {thing} and {other} has {b} times as many. How many do they have together?",
             steps=("{other} has [a*b] {thing}.", "Together they have [a+r1] {thing}."), most={"a": 20, "b": 6}),
    Template(question="{name} buys {a} {holder} of {b} {thing} and gives away {c}. How many {thing} are left?",
             steps=("{name} buys [a*b] {thing}.", "There are [r1-c] {thing} left."), most={"a": 15, "b": 12, "c": 20}),
    Template(question="{name} has {a} {thing}. {other} has {b} more than {name}. How many do they have together?",
             steps=("{other} has [a+b] {thing}.", "Together they have [a+r1] {thing}."), most={"a": 40, "b": 20}),
    Template(question="One of the {thing} costs ${a}. {name} buys {b} and pays with ${c}. How much change is there?",
             steps=("The {thing} cost [a*b] dollars.", "The change is [c-r1] dollars."), most={"a": 12, "b": 9, "c": 100}),
    Template(question="{name} had {a} {thing}, found {b} and then lost {c}. How many {thing} does {name} have?",
             steps=("{name} had [a+b] {thing}.", "Now {name} has [r1-c] {thing}."), most={"a": 50, "b": 30, "c": 30}),
    Template(question="{name} reads {a} pages a day for {b} days. The book has {c} pages. How many pages are left?",
             steps=("{name} reads [a*b] pages.", "There are [c-r1] pages left."), most={"a": 15, "b": 9, "c": 150}),
    Template(question="{name} packs {a} {thing} and {other} packs {b}. Each box holds {c}. How many boxes do they fill?",
             steps=("They pack [a+b] {thing}.", "They fill [r1/c] boxes."), most={"a": 50, "b": 50, "c": 9}),
    Template(question="{name} works {a} hours a day for {b} days and earns ${c} an hour. How much does {name} earn?",
             steps=("{name} works [a*b] hours.", "{name} earns [r1*c] dollars."), most={"a": 8, "b": 6, "c": 9}),
    Template(question="A farm has {a} cows and {b} times as many hens. How many animals are there?",
             steps=("There are [a*b] hens.", "There are [a+r1] animals."), most={"a": 30, "b": 9}),
    Template(question="{name} runs {a} miles on each of {b} days and walks {c} miles. How far does {name} go?",
             steps=("{name} runs [a*b] miles.", "{name} goes [r1+c] miles."), most={"a": 12, "b": 9, "c": 30}),
    # three steps
    Template(question="{name} has {a} {holder} of {b} {thing} and {c} {holder} of {d} {thing}. How many {thing} is that?",
             steps=("The first hold [a*b] {thing}.", "The others hold [c*d] {thing}.", "That is [r1+r2] {thing}."),
             most={"a": 9, "b": 12, "c": 9, "d": 12}),
    Template(question="{name} has {a} {thing}, {other} has {b} times as many and gives {c} away. How many do they have together?",
             steps=("{other} has [a*b] {thing}.", "Then {other} has [r1-c] {thing}.", "Together they have [a+r2] {thing}."),
             most={"a": 15, "b": 6, "c": 15}),
    Template(question="{name} sells {a} {thing} at ${b} each, spends ${c} and saves the rest for {d} weeks. How much is saved a week?",
             steps=("{name} gets [a*b] dollars.", "The rest is [r1-c] dollars.", "Each week it is [r2/d] dollars."),
             most={"a": 12, "b": 9, "c": 20, "d": 6}),
    Template(question="{name} buys {a} {thing} at ${b} and {c} hats at ${d}. How much does {name} pay?",
             steps=("The {thing} cost [a*b] dollars.", "The hats cost [c*d] dollars.", "{name} pays [r1+r2] dollars."),
             most={"a": 12, "b": 9, "c": 9, "d": 9}),
    Template(question="{a} buses carry {b} children each. {c} children leave and the rest form {d} teams. How big is a team?",
             steps=("There are [a*b] children.", "The rest are [r1-c] children.", "A team has [r2/d] children."),
             most={"a": 9, "b": 20, "c": 30, "d": 9}),
    Template(question="{name} had {a} {thing}, bought {b} {holder} of {c} and gave {d} away. How many {thing} are left?",
             steps=("{name} bought [b*c] {thing}.", "Then {name} had [a+r1] {thing}.", "There are [r2-d] {thing} left."),
             most={"a": 30, "b": 9, "c": 9, "d": 20}),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A generated problem before it has an id, put into words when they are asked for: most drafts are of another split."""

    number: int  # of its template
    values: dict[str, int]  # letters and results
    words: dict[str, str]

    @property
    def template(self) -> Template:
        """What it is made from."""
        return TEMPLATES[self.number]

    @property
    def computation(self) -> tuple[int, ...]:
        """Template and numbers: what the splits are drawn by."""
        return (self.number, *(self.values[letter] for letter in self.template.letters))

    @property
    def split(self) -> Split:
        """Where this computation belongs: one in twenty to dev, one to test."""
        digest = hashlib.sha256(repr(self.computation).encode()).digest()[0] % 20
        return "dev" if digest == 0 else "test" if digest == 1 else "train"

    @property
    def gold(self) -> int:
        """The result of the last step."""
        return self.values[f"r{len(self.template.steps)}"]

    @property
    def question(self) -> str:
        """What is asked."""
        return self.template.question.format(**self.words, **self.values)

    @property
    def rationale(self) -> str:
        """The worked steps and the answer."""
        lines = []
        for number, (step, (x, sign, y)) in enumerate(zip(self.template.steps, self.template.sums, strict=True), start=1):
            sum_ = f"{self.values[x]}{sign}{self.values[y]}"
            worked = f"{sum_}=<<{sum_}={self.values[f'r{number}']}>>{self.values[f'r{number}']}"
            lines.append(step.replace(f"[{x}{sign}{y}]", worked).format(**self.words))
        return "\n".join([*lines, f"#### {self.gold}"])


def draft(rng: random.Random) -> Draft:
    """Draw one problem whose every result is a whole number from 1 to LARGEST."""
    while True:
        number = rng.randrange(len(TEMPLATES))
        template = TEMPLATES[number]
        values = {letter: rng.randint(2, template.most.get(letter, 20)) for letter in template.letters}
        words = dict(zip(("name", "other"), rng.sample(NAMES, 2), strict=True))
        words |= {"thing": rng.choice(THINGS), "holder": rng.choice(HOLDERS)}
        if _worked_out(template, values):
            return Draft(number=number, values=values, words=words)


def _worked_out(template: Template, values: dict[str, int]) -> bool:
    """Add the results of the steps to `values`; False where one is no whole number in range."""
    for number, (one, sign, other) in enumerate(template.sums, start=1):
        x, y = values[one], values[other]
        result = {"+": x + y, "-": x - y, "*": x * y, "/": x // y if x % y == 0 else 0}[sign]
        if not 1 <= result <= LARGEST:
            return False
        values[f"r{number}"] = result
    return True


def drafts(split: Split, *, seed: int) -> Iterator[Draft]:
    """An endless stream of problems of one split."""
    rng = random.Random(f"{seed}/{split}")
    while True:
        problem = draft(rng)
        if problem.split == split:
            yield problem


@cache
def generated(split: Split, count: int, *, seed: int = 0) -> tuple[Problem, ...]:
    """The first `count` generated problems of a split, no question twice; a longer list begins with a shorter one.

    In dev and test no computation comes twice either: intervals and paired tests take problems for independent.
    """
    taken: set[object] = set()
    problems: list[Problem] = []
    fruitless = 0
    for made in drafts(split, seed=seed):
        if len(problems) == count:
            break
        key = made.question if split == "train" else made.computation
        if key in taken:
            fruitless += 1
            if fruitless == EXHAUSTED:
                raise ValueError(f"pocket: asked for {count} generated {split} problems where only {len(problems)} are found")
            continue
        fruitless = 0
        taken.add(key)
        problems.append(
            Problem(id=f"pocket/{split}/{len(problems)}", question=made.question, gold=str(made.gold), rationale=made.rationale)
        )
    return tuple(problems)
