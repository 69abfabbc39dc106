"""What an arm is: facts that tables, figures and the evaluation ask for, and what it puts in the question's place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self, TypeVar

# Okabe and Ito's colours, which colour-blind readers tell apart; line styles and markers tell them apart in grey.
BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7"
GREY, BLACK = "#7F7F7F", "#000000"
PLAIN_LOOK: Mapping[str, Any] = {"color": GREY, "linestyle": ":", "marker": "."}  # of an arm that says nothing of its look

Member = Literal["source", "target"]
Crams = Literal["question", "answer"]


C = TypeVar("C", bound="Crossing")


class Crossing(Protocol):
    """What crosses from source to target for several problems, with its own controls. Soft tokens are the first kind.

    Where nothing was written, as in an arm without a translator, only the controls that need nothing can be had.
    """

    def __len__(self) -> int:
        """Problems."""

    def zero(self) -> Self:
        """Nothing in its place: the same size, and no content."""

    def noise(self) -> Self:
        """Noise of the size that the target expects, seeded by each problem's id."""

    def rows(self, order: Sequence[int]) -> Self:
        """What was written for other problems: for problem i that of problem order[i]."""

    def mean_of_others(self) -> Self:
        """For each problem the mean of what was written for all others, at the size that the target expects."""

    def through_wire(self, form: str) -> Self:
        """As it arrives at the other end, in a wire format."""


class Consulted:
    """What the models can be asked about the questions of a batch; an evaluation answers (`evaluation.consulted`)."""

    @property
    def ids(self) -> Sequence[str]:
        """Of the problems."""
        raise NotImplementedError

    @property
    def soft_tokens(self) -> int:
        """K, the tokens that an arm may have in the question's place."""
        raise NotImplementedError

    @property
    def lengths(self) -> Sequence[int]:
        """How many tokens each question has in its place before the target."""
        raise NotImplementedError

    def surprise(self) -> Sequence[Sequence[float]]:
        """Nats that the target finds in each token of each question in its place."""
        raise NotImplementedError

    def kept(self, places: Sequence[Sequence[int]]) -> Sequence[str]:
        """Of each question the text of its tokens at these places."""
        raise NotImplementedError

    def rewritten(self, instruction: str) -> Sequence[str]:
        """What the source writes where it is shown an instruction and a question: the first line, cut to K tokens."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Texts:
    """What an arm may make text of: the questions of a batch, by arm the answers that it asked to be handed, and the models."""

    questions: Sequence[str]
    answers: Mapping[str, Sequence[str]]
    models: Consulted = field(default_factory=Consulted)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to answer, or one that should fail.

    answered_by: the model that writes the answer. trained: it needs a translator's weights; an arm without them is frozen: its
    rows are the same for every trial, computed once. in_sweeps: the splits on which every sweep evaluates it. of_k: its rows
    depend on the number of soft tokens. reads_text: it reads text alone; no soft tokens. shows_question: what it reads as text
    is the question itself. cut_to_k: its text is cut to as many tokens as there are soft tokens. of_block: its rows depend on
    the other problems of a block (`evaluation.setting`), and what `soft` is given was written for a whole one. passes_on: arms
    whose answers it is handed.
    consults: the models that its texts are made with. crams: what the target shall be able to write from vectors that are
    optimised for each problem and stand where a translator's would: a ceiling, evaluated where it is named and never timed.
    chooses: its answer is one of those, by `choose`. wire: the format its soft tokens travel in. packed: they really do.
    borrows: the arm of another trial, one of the translator `of_translator`, whose rows stand for it.
    version: raised when what it puts before a model changes. note: what a table says of it.
    control: it should fail. against: the arm that it must beat. look: of matplotlib. order: its place in tables and figures.
    """

    name: str
    version: int = 1
    answered_by: Member = "target"
    trained: bool = False
    in_sweeps: tuple[str, ...] = ()
    of_k: bool = False
    reads_text: bool = False
    shows_question: bool = False
    cut_to_k: bool = False
    of_block: bool = False
    passes_on: tuple[str, ...] = ()
    consults: tuple[Member, ...] = ()
    crams: tuple[Crams, ...] = ()
    chooses: bool = False
    wire: str = "fp16"
    packed: bool = False
    borrows: str | None = None
    of_translator: str | None = None
    control: bool = False
    against: str | None = "no_context"
    note: str = ""
    look: Mapping[str, Any] = field(default_factory=lambda: PLAIN_LOOK, compare=False)
    order: int = 500

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"arm {self.name!r}: the name must be letters, digits and underscores")
        if self.reads_text and self.trained:
            raise ValueError(f"arm {self.name}: an arm that reads text alone needs no translator's weights")
        if self.crams and (self.reads_text or self.trained):
            raise ValueError(f"arm {self.name}: vectors are crammed in the place of text and of what a translator writes")
        if self.control and self.against is not None:
            raise ValueError(f"arm {self.name}: a control is beaten and beats nothing; set against to None")

    @property
    def frozen(self) -> bool:
        """Whether its rows are the same for every trial."""
        return not self.trained

    @property
    def words(self) -> str:
        """Its name as a reader sees it."""
        return self.name.replace("_", " ")

    def texts(self, given: Texts) -> Sequence[str]:
        """What it puts in the question's place as text, one a problem; empty for none."""
        return [""] * len(given.questions)

    def soft(self, written: C, *, seed: int) -> C | None:
        """What it takes of that which the translator wrote; None for nothing. seed: the trial's."""
        return None

    def choose(self, scores: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
        """The arm whose answer it takes for each problem, from how likely each model finds each handed answer."""
        raise NotImplementedError  # an arm that chooses defines it


@dataclass(frozen=True, kw_only=True)
class WithQuestion(Arm):
    """An arm that reads the question itself."""

    shows_question: bool = True

    def texts(self, given: Texts) -> Sequence[str]:
        """The questions."""
        return given.questions
