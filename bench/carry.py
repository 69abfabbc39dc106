"""What carries a question? Translators trained for the same number of seconds, each beside its shuffled control.

python bench/carry.py [--scale pocket] [--seconds 20] [--only anchored --only attention] [--tokens 16]

`--seconds 0` shows what carries in closed form, before any step; `layer_0` and so on read one layer of the source alone.

Half of every batch are the scale's own problems (worked answer and reconstruction), the other half sentences of SQuAD, worked
answers and questions with other numbers, which are only repeated. All figures are of test problems, from the soft tokens alone.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
import typer

from evaluators.squad import Squad
from evaluators.svamp import Svamp
from raybridge import arms
from raybridge.data import data_folder
from raybridge.data.texts import Mixture, OtherNumbers, Sentences, WorkedAnswers
from raybridge.errors import unknown
from raybridge.evaluation.models import Models
from raybridge.evaluation.prompt import Prompt, prompt_of
from raybridge.evaluation.scoring import continuation_nll
from raybridge.evaluation.setting import Request, setting_of
from raybridge.losses import Loss
from raybridge.losses.contrastive import PromptContrast
from raybridge.losses.flow import Flow
from raybridge.losses.next_token import AnswerNLL, Reconstruction
from raybridge.models.decode import greedy
from raybridge.models.prompts import REPEAT_CUE
from raybridge.scales import SCALES
from raybridge.training.fitting import fit
from raybridge.training.step import Trainer, build_trainer
from raybridge.translators import Translator
from raybridge.translators.attention_pooling import AttentionPooling
from raybridge.translators.bottlenecked import Bottlenecked
from raybridge.translators.dit import DiT
from raybridge.translators.linear import Linear
from raybridge.translators.prompt_tuning import PromptTuning
from raybridge.translators.weights import copy_of
from raybridge.trial import Trial
from raybridge.world import World

NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
EVERY = 20  # steps between two looks at how many the seconds will hold
CARRIED = (AnswerNLL(), Reconstruction())
ARMS = tuple(arms.find(name) for name in ("bridged", "shuffled", "no_context", "target"))
BRIDGED, SHUFFLED = ARMS[:2]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A translator and what trains it."""

    name: str
    translator: Translator
    losses: tuple[Loss, ...] = CARRIED


def candidates(base: Trial, K: int) -> list[Candidate]:
    """What is compared, all reading the layers that the base trial reads."""
    assert isinstance(base.translator, Bottlenecked)
    ours = replace(base.translator, soft_tokens=K, picking="even", free_share=0.0)
    shape = dict(soft_tokens=K, layers=ours.layers)
    width, depth, heads = ours.width, ours.depth, ours.heads
    return [
        Candidate(name="anchored", translator=ours),
        Candidate(name="salient", translator=replace(ours, picking="salient")),
        Candidate(name="salient_free", translator=replace(ours, picking="salient", free_share=0.25)),
        Candidate(name="means", translator=replace(ours, picking="mean")),
        Candidate(name="means_free", translator=replace(ours, picking="mean", free_share=0.25)),
        Candidate(name="queries", translator=replace(ours, anchored=False)),
        Candidate(name="attention", translator=AttentionPooling(**shape, width=width, heads=heads)),
        Candidate(name="linear", translator=Linear(**shape)),
        Candidate(name="linear_mean", translator=Linear(**shape, pooling="mean")),
        Candidate(name="dit", translator=DiT(**shape, width=width, depth=depth, heads=heads), losses=(*CARRIED, Flow())),
        Candidate(name="constant", translator=PromptTuning(**shape)),
        *(Candidate(name=f"layer_{n}", translator=Linear(soft_tokens=K, layers=(n,), pooling="mean")) for n in ours.layers),
    ]


def mixture_of(trial: Trial, share: float) -> Mixture:
    """Half of each batch as texts to repeat: worked answers, and sentences of SQuAD's training paragraphs.

    share: of these texts that are mixed from questions of train, with other numbers. The pocket models know no prose.
    """
    mixed = (OtherNumbers(share=0.5 * share),) if share else ()
    if trial.source.startswith("pocket:") or data_folder() is None:
        return Mixture(parts=(WorkedAnswers(share=0.5 * (1 - share)), *mixed))
    further = Sentences(share=0.4 * (1 - share), evaluator=Squad())
    return Mixture(parts=(WorkedAnswers(share=0.1 * (1 - share)), further, *mixed), held_out=(Svamp(), Squad()))


def train(trial: Trial, models: Models, seconds: float) -> Trainer:
    """Train for so many seconds; the length of the schedule follows the clock."""
    source, target = models.load(trial.source), models.load(trial.target)
    trainer = build_trainer(trial, source=source, target=target, world=World(device=models.device))
    fit(trainer.module, trainer.batches)
    started = time.perf_counter()
    step, spent = 0, 0.0
    values: list[dict[str, float]] = []
    while spent < seconds:
        done = trainer.step(step, measure=False, interrupt=False)
        step += 1
        spent = time.perf_counter() - started
        if step % EVERY == 0:
            steps = max(round(step * seconds / spent), step + 1, trial.warmup + 1)
            trainer = replace(trainer, trial=replace(trainer.trial, steps=steps))
        values.append({term.loss.name: term.value for term in done.terms})
    if not values:
        return trainer  # the closed form alone
    means = {loss.name: [of[loss.name] for of in values[-100:] if loss.name in of] for loss in trial.losses}
    last = ", ".join(f"{name} {sum(of_one) / len(of_one):.3f}" for name, of_one in means.items())
    print(f"  {step} steps in {spent:.0f} s; in training, over the last 100: {last}", flush=True)
    return trainer


def prompt_by(
    arm: arms.Arm, request: Request, models: Models, weights: dict[str, torch.Tensor], cue: str | None = None
) -> Prompt:
    """A batch as an arm puts it to its model, without exemplars; `cue` replaces the benchmark's own."""
    return prompt_of(request, models, arm, models.written(request, weights), shots=False, cue=cue, weights=weights)


@torch.no_grad()
def nll_of(arm: arms.Arm, requests: Sequence[Request], models: Models, weights: dict[str, torch.Tensor]) -> tuple[float, float]:
    """NLL a token of the worked answers and of the questions, as an arm finds them."""
    sums = [0.0, 0.0]
    counts = [0, 0]
    for request in requests:
        texts = [problem.rationale for problem in request.problems], [problem.question for problem in request.problems]
        for number, cue in enumerate((None, REPEAT_CUE)):
            prompt = prompt_by(arm, request, models, weights, cue)
            rows = prompt.around.answers(texts[number])
            sums[number] += sum(continuation_nll(prompt, rows)[0])
            counts[number] += sum(map(len, rows))
    return sums[0] / counts[0], sums[1] / counts[1]


@torch.no_grad()
def numbers_found(arm: arms.Arm, request: Request, models: Models, weights: dict[str, torch.Tensor]) -> tuple[float, str]:
    """Share of the numbers of the questions that stand in their greedy repetitions, and the first repetition.

    A translator that recites 1 to 30 finds many: only the difference to `shuffled` counts.
    """
    prompt = prompt_by(arm, request, models, weights, REPEAT_CUE)
    completions = greedy(prompt.lm, prompt.pieces, max_new_tokens=128, shared=prompt.shared)
    found = there = 0
    for problem, completion in zip(request.problems, completions, strict=True):
        wanted, written = (Counter(NUMBER.findall(text)) for text in (problem.question, completion.text))
        found += (wanted & written).total()
        there += wanted.total()
    return found / there, completions[0].text


def report(trial: Trial, models: Models, weights: dict[str, torch.Tensor]) -> None:
    """Print what a trained translator carries."""
    requests = setting_of(trial, "test").requests(ARMS)
    nll = [nll_of(arm, requests, models, weights) for arm in ARMS]
    for number, what in enumerate(("answer", "reconstruction")):
        ours, wrong_one, floor, text = (of_arm[number] for of_arm in nll)
        print(
            f"  {what:14} NLL bridged {ours:.3f}  shuffled {wrong_one:.3f}  floor {floor:.3f}  text {text:.3f}  "
            f"gap recovered {(floor - ours) / (floor - text):.2f}  shuffled minus bridged {wrong_one - ours:+.3f}"
        )
    (ours, text), (wrong_one, _) = (numbers_found(arm, requests[0], models, weights) for arm in (BRIDGED, SHUFFLED))
    print(f"  numbers of {len(requests[0].problems)} questions in their repetitions: {ours:.2f}, shuffled {wrong_one:.2f}")
    print(f"    {requests[0].problems[0].question!r}\n    -> {text!r}", flush=True)


def main(
    scale: str = "pocket",
    seconds: float = 20.0,
    tokens: int = 16,
    only: Annotated[list[str] | None, typer.Option(help="candidates; default: all")] = None,
    problems: int = 256,
    batch: int | None = None,
    rate: float | None = None,
    mixed: Annotated[float, typer.Option(help="share of the texts that is mixed from questions, with other numbers")] = 0.0,
    contrast: Annotated[float, typer.Option(help="weight of a prompt contrast beside the other losses")] = 0.0,
    target: Annotated[str | None, typer.Option(help="another target than the scale's")] = None,
    seed: int | None = None,
) -> None:
    """Print one line a translator."""
    known = {one.name: one for one in SCALES}
    if scale not in known:
        raise unknown("scale", scale, known)
    base = replace(known[scale].trial, steps=10**6, test_problems=problems)
    given = dict(batch=batch, learning_rate=rate, target=target, seed=seed)
    base = replace(base, **{name: value for name, value in given.items() if value is not None}, own_answers=None)
    base = replace(base, mixture=mixture_of(base, mixed), exemplars=False)
    chosen = candidates(base, tokens)
    if only and (wrong := set(only) - {one.name for one in chosen}):
        raise unknown("candidate", wrong.pop(), [one.name for one in chosen])
    models = Models("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{base.source} to {base.target}, K = {tokens}, {seconds:g} s each, batch {base.batch}, {problems} test problems")
    for one in chosen:
        if only and one.name not in only:
            continue
        print(one.name, flush=True)
        also = (PromptContrast(weight=contrast, margin=1.5, max_tokens=256),) if contrast else ()
        trial = replace(base, name="t", translator=one.translator, losses=(*one.losses, *also))
        trainer = train(trial, models, seconds)
        report(trial, models, copy_of(trainer.module))


if __name__ == "__main__":
    typer.run(main)
