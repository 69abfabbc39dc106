"""`python -m raybridge.evaluate TRIAL --on BENCHMARK`: any trained translator, any benchmark, every arm.

Without a command's name, the first word is the trial to evaluate (`trial --help` has its options). Other commands compare
trials, summarize completions, take earlier runs into the results, and write and verify bundles that others can check.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from raybridge.analysis import samples
from raybridge.analysis.compare import Asked, compare_readings, default_arm, sentence
from raybridge.console import DEBUG, HELP, RESULTS, OneUnnamed, guarded, print_table, progress_of
from raybridge.evaluation.exchange import export, import_runs, verify
from raybridge.results import Results
from raybridge.results.command_log import logged
from raybridge.results.find import find_trial
from raybridge.statistics import minimum_detectable_effect

console = Console(width=None if sys.stdout.isatty() else 160)  # a log file has no width of its own
# torch, transformers and the benchmarks take seconds to import: the commands that need them import them.


class Commands(OneUnnamed):
    """Commands, of which `trial` may be left unnamed."""

    unnamed = "trial"
    console = console


app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, cls=Commands, context_settings=HELP)

ON = Annotated[str, typer.Option("--on", help="the benchmark: a file of evaluators/")]
JSON = Annotated[bool, typer.Option("--json", help="print JSON")]
COMMANDS = ("compare", "summarize", "import-runs", "export", "verify")  # what a word that is no trial may have meant
HARDEN = "Decode hardening (off by default; told in the names of what is kept)"


@app.command("trial")
def evaluate_trial(
    trial: Annotated[str | None, typer.Argument(help="its directory, name or fingerprint")] = None,
    on: Annotated[str | None, typer.Option("--on", help="a file of evaluators/; default: the trial's own")] = None,
    source: Annotated[str | None, typer.Option(help="without a trial: the source model")] = None,
    target: Annotated[
        str | None, typer.Option(help="without a trial: the target model; with one: another target of its interlingua")
    ] = None,
    split: Annotated[Literal["dev", "test"], typer.Option(help="test or dev")] = "test",
    problems: Annotated[int | None, typer.Option(min=2, help="how many, drawn by seed 0; default: the trial's or all")] = None,
    arms: Annotated[str | None, typer.Option(help="arms to evaluate, with commas; default: all")] = None,
    bits: Annotated[str, typer.Option(help="of quantised soft tokens to answer with, with commas")] = "16,8,6,4",
    batch: Annotated[
        int | None, typer.Option(min=1, help="problems at a time; default: 128, on a GPU more of few arms")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; default: a GPU if there is one")] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="spread over so many GPUs: a replica each, under Ray")] = None,
    gpus_per_model: Annotated[int, typer.Option(min=1, help="GPUs of this process or a replica, over which a model lies")] = 1,
    timed: Annotated[int, typer.Option(min=0, help="problems timed one by one; 0 measures no costs")] = 20,
    difference: Annotated[float, typer.Option(min=0.0, max=1.0, help="of accuracies that should be shown")] = 0.05,
    top_p: Annotated[float | None, typer.Option(help="nucleus of the first token", rich_help_panel=HARDEN)] = None,
    temperature: Annotated[float, typer.Option(help="of the first token's draw", rich_help_panel=HARDEN)] = 0.7,
    ban_end: Annotated[int, typer.Option(help="first tokens that cannot be the end", rich_help_panel=HARDEN)] = 0,
    repetition_penalty: Annotated[float, typer.Option(help="1 is none", rich_help_panel=HARDEN)] = 1.0,
    anchor: Annotated[str, typer.Option(help="text that every answer starts with", rich_help_panel=HARDEN)] = "",
    bos: Annotated[bool, typer.Option("--bos", help="a BOS behind the soft tokens", rich_help_panel=HARDEN)] = False,
    results: RESULTS = Path("ray_results"),
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Evaluate a trial's best checkpoint on a benchmark with every arm and control, or two models without a translator."""
    with logged(results, "evaluate", console) as log, guarded(console, debug=debug):
        from transformers.utils import logging

        from raybridge.analysis.plan import expected
        from raybridge.analysis.scorecard import tables
        from raybridge.evaluation.benchmarks import load_evaluator
        from raybridge.evaluation.card import arms_of, evaluate
        from raybridge.evaluation.provenance import prompt_of
        from raybridge.evaluation.setting import BATCH, ON_GPU
        from raybridge.evaluation.trained import of_models, of_trial
        from raybridge.models import names
        from raybridge.models.hardening import Hardening
        from raybridge.models.reading import told_to

        logging.disable_progress_bar()  # ours tells what takes long
        hardening = Hardening(
            top_p=top_p,
            temperature=temperature,
            ban_end=ban_end,
            repetition_penalty=repetition_penalty,
            anchor=anchor.strip(),
            bos=bos,
        )
        kept, trained = Results(results), None
        kind = "cuda" if gpus is not None else _device(device).partition(":")[0]
        asked: dict[str, Any] = dict(split=split, count=problems, hardening=hardening, device=kind)
        if trial is not None:
            if source:
                raise ValueError("give a trial, or --source and --target, not both: a trial has its own source")
            run = find_trial(trial, kept, commands=COMMANDS)
            kept, evaluator = Results(run.root), load_evaluator(on) if on else None
            log.move(run.root)
            setting, trained = of_trial(run, evaluator=evaluator, target=target, **asked)
        elif source and target and on:
            setting = of_models(source, target, evaluator=load_evaluator(on), **asked)
        else:
            raise ValueError("give a trial, or --source, --target and --on for the arms that need no translator")
        chosen = arms_of(setting, trained, kept, bits=_numbers(bits), only=_words(arms))
        models = list(dict.fromkeys([setting.source, setting.target]))
        for model in models:
            names.check(model)
        if (said := _too_few(len(setting.problems), difference)) and not as_json:
            console.print(said, highlight=False, soft_wrap=True)
        named, count = [arm.name for arm in chosen], len(setting.problems)
        time_ = expected(kept, named, evaluator=setting.evaluator.name, count=count)
        with (
            _answerer(device, gpus, gpus_per_model, models) as answerer,
            _resumable(),
            progress_of(console, named, count, quiet=as_json, seconds=time_) as told,
            told_to(told.model),
        ):
            card = evaluate(
                setting,
                trained,
                kept,
                answerer,
                chosen,
                batch=batch or BATCH,
                at_least=0 if batch or kind == "cpu" else ON_GPU,
                timed=timed,
                tell=lambda arm, done: told.arm(arm.name, done),
            )
        if as_json:
            plain = {**card.plain(), "arms": named, "prompt": prompt_of(setting.evaluator), "shows": said}
            typer.echo(json.dumps(plain, ensure_ascii=False, allow_nan=False))
            log.note(json.dumps(plain))
            return
        for table in tables(card):
            print_table(console, table)
        for note in card.notes:
            console.print(note, highlight=False, soft_wrap=True, markup=False)


@app.command("compare")
def compare_trials(
    a: Annotated[str, typer.Argument(help="A, a trial: its directory, name or fingerprint")],
    b: Annotated[str, typer.Argument(help="B, another, or the same with other arms or steps")],
    on: ON,
    split: Annotated[str, typer.Option(help="test or dev")] = "test",
    arm: Annotated[str | None, typer.Option(help="the arm of both; default: what each was trained for")] = None,
    arm_b: Annotated[str | None, typer.Option("--arm-b", help="the arm of B, if another")] = None,
    step_a: Annotated[int | None, typer.Option("--step-a", help="of A; default: the last evaluation")] = None,
    step_b: Annotated[int | None, typer.Option("--step-b", help="of B; default: the last evaluation")] = None,
    shared: Annotated[bool, typer.Option("--shared", help="compare on the problems that both were evaluated on")] = False,
    results: RESULTS = Path("ray_results"),
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Compare A against B, such as new against old, by problem: the difference is A minus B, a win one where A is better."""
    with logged(results, "compare", console) as log, guarded(console, debug=debug):
        from raybridge.evaluation.benchmarks import check_benchmark

        kept = Results(results)
        first, second = find_trial(a, kept), find_trial(b, kept)
        check_benchmark(on, also=[name for run in (first, second) for name, _, _ in run.sampled()])
        left = Asked(run=first, arm=arm or default_arm(first, on, split), on=on, split=split, step=step_a)
        right = Asked(run=second, arm=arm_b or arm or default_arm(second, on, split), on=on, split=split, step=step_b)
        compared = compare_readings(left, right, shared=shared)
        if as_json:
            typer.echo(json.dumps([asdict(one) for one in compared]))
            log.note(json.dumps([asdict(one) for one in compared]))
            return
        for one in compared:
            console.print(sentence(one, typed=True), soft_wrap=True, highlight=False, markup=False)


@app.command()
def summarize(
    paths: Annotated[list[Path], typer.Argument(help="trials, tables of samples, or directories of earlier runs")],
    on: ON = "gsm8k",
    examples: Annotated[int, typer.Option(min=0, help="completions of each kind to show, of the last evaluation")] = 1,
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Count valid, invalid, truncated and correct completions, and show some."""
    with guarded(console, debug=debug):
        from raybridge.evaluation.benchmarks import check_benchmark
        from raybridge.evaluation.kept import evaluations_at

        check_benchmark(on)
        evaluations = [one for path in paths for one in evaluations_at(path, on)]
        rows = [row for where, kept in evaluations for row in samples.counted(kept, where)]
        examples_ = samples.examples_of(evaluations[-1][1], examples)
        if as_json:
            typer.echo(json.dumps({"rows": rows, "examples": examples_}, ensure_ascii=False))
            return
        print_table(console, samples.table_of(rows, ""))
        for one in examples_:
            head = f"{one['kind']} {one['arm']} {one['problem']}: {one['answer']!r}"
            console.print(samples.shorten(head), markup=False, highlight=False, style="bold")
            console.print(samples.shorten(one["completion"]), markup=False, highlight=False, style="dim")


app.command("import-runs")(import_runs)
app.command("export")(export)
app.command("verify")(verify)


def _words(listed: str | None) -> list[str]:
    """The words of a list with commas."""
    return [word.strip() for word in (listed or "").split(",") if word.strip()]


def _numbers(listed: str) -> list[int]:
    """The numbers of a list with commas."""
    for word in _words(listed):
        if not word.isdecimal():
            raise ValueError(f"--bits: {word!r} is no number; give numbers with commas between them, such as 16,8,6,4")
    return [int(word) for word in _words(listed)]


@contextmanager
def _answerer(device: str | None, gpus: int | None, gpus_per_model: int, models: Sequence[str]) -> Iterator[Any]:
    """Who answers about these models: this process on its device or devices, or replicas on several GPUs."""
    if gpus is None:
        from raybridge.evaluation.answerer import Local
        from raybridge.evaluation.models import Models

        first, *beside = _devices(_device(device), gpus_per_model)
        yield Local(Models(first, beside=beside, cached_states=0))
        return
    if device is not None:
        raise ValueError("--device names one device and --gpus several; give one of them")
    from raybridge.cluster.replicas import pool_on

    with pool_on(gpus, models=models, gpus_per_model=gpus_per_model) as pool:
        yield pool


def _device(asked: str | None) -> str:
    """The device asked for, which must be there; else a GPU if there is one."""
    import torch

    if asked is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=asked)
    except (RuntimeError, AssertionError) as error:  # AssertionError: a build of torch without CUDA
        there = ", ".join(["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))])
        raise ValueError(f"--device: no device {asked!r} here; valid: {there}") from error
    return asked


def _devices(first: str, count: int) -> list[str]:
    """So many GPUs from the first on; that device where one is asked for."""
    if count == 1:
        return [first]
    kind, _, number = first.partition(":")
    if kind != "cuda":
        raise ValueError(f"--gpus-per-model {count}: {first} is no GPU; leave it out, or type --device cuda:0")
    return [_device(f"cuda:{int(number or 0) + further}") for further in range(count)]


def _too_few(n: int, difference: float) -> str:
    """What n problems cannot show, where that is what is asked; empty where they can."""
    effect = minimum_detectable_effect(n)
    if effect <= difference:
        return ""
    shown = f"below {effect:.3f}" if effect < 1 else "of any size"
    return (
        f"note: with {n} problems a paired difference {shown} would often be missed (power 0.8 at p 0.05, half of the problems "
        f"answered differently); {difference:g} was asked for (--difference)"
    )


@contextmanager
def _resumable() -> Iterator[None]:
    """Ctrl-C ends at once, for every batch that is done is kept; says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        console.print("stopped; the batches that are done are kept, and the same command goes on from there")
        raise typer.Exit(130) from None


if __name__ == "__main__":
    app()
