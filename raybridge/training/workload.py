"""How a trial is run by whoever has workers: the engine (training.worker) that `Trial.ENGINE` names."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache
from threading import Event
from typing import Any

import torch

from raybridge.analysis.power import could_show
from raybridge.data import UnreachableError, data_folder
from raybridge.evaluation import identity
from raybridge.evaluation.answerer import Answerer
from raybridge.evaluation.benchmarks import check_problems
from raybridge.evaluation.evaluations import Evaluations
from raybridge.evaluation.kept_source import KeptSource
from raybridge.evaluation.provenance import provenance_of
from raybridge.evaluation.setting import Setting, frozen_arms, problems_of, setting_of, trial_arms
from raybridge.models import lm, names
from raybridge.models.free import GIB, hold_to
from raybridge.models.frozen import FrozenLM
from raybridge.models.reading import told_to
from raybridge.results import Results, TrialRun
from raybridge.results.states import States
from raybridge.training import allotment, conclusion, own_answers
from raybridge.training.allotment import Allotment, allotted
from raybridge.training.gaps import fill
from raybridge.training.lengths import lengths_of
from raybridge.training.loop import train
from raybridge.training.memory import fits
from raybridge.training.reading import JUDGED, not_loaded, read_ahead, rows_read, states_told
from raybridge.training.step import first_module
from raybridge.training.worker import Ended, Worker
from raybridge.translators import TranslatorModule
from raybridge.trial import Trial
from raybridge.world import World

log = logging.getLogger(__name__)


def sealed(trial: Trial, *, device: str) -> Trial:
    """With the contents of its models, its benchmark and its prompts."""
    return identity.sealed(trial, device=device)


def check(trial: Trial, *, workers: int) -> None:
    """Refuse a benchmark that is not there or too small, what its models do not have, and a batch that cannot be shared."""
    try:
        _check(trial, workers)
    except UnreachableError:
        raise
    except ValueError as error:
        raise ValueError(f"trial {trial.name}: {error}") from error


def _check(trial: Trial, workers: int) -> None:
    check_problems(
        trial.evaluator,
        {
            "train": ("batch", trial.problems_a_batch),
            "dev": ("dev_problems", trial.dev_problems or 2),  # the shuffled control needs another problem
            "test": ("test_problems", trial.test_problems or 2),
        },
    )
    translator = trial.translator
    names.check_layers(trial.source, translator.layers, field="layers of its translator")
    names.check_layers(trial.target, translator.adds_to, field="target_layers of its translator", last=False)
    new = trial.evaluator.max_new_tokens
    said = f"soft_tokens {translator.most_soft_tokens:,} and the {new} tokens of an answer"
    for target in (trial.target, *translator.other_targets):
        names.check_positions(target, translator.most_soft_tokens + new, of=said)
    if trial.batch % workers:
        valid = ", ".join(str(count) for count in range(1, trial.batch + 1) if trial.batch % count == 0)
        raise ValueError(
            f"batch {trial.batch} cannot be shared by {workers} workers: it must be a multiple of them; valid: {valid}"
        )


def needs(
    trials: Sequence[Trial], *, workers: int, card: float | None, cards: int, kept: States, results: Results | None = None
) -> list[str]:
    """What their test problems can show, what is answered and learned from, disk for states of sources, memory of each GPU."""
    shown = [could_show(n) for n in sorted({len(problems_of(trial, "test")) for trial in trials})]
    learned = list(dict.fromkeys(line for trial in trials for line in learned_from(trial, results)))
    disk, on_disk = states_told(trials, kept, device="cpu" if card is None else "cuda")
    told = [*shown, *([answers_told(trials)] if trials else []), *learned, *disk]
    if card is None:
        return told
    return [*told, *(fits(one, workers=workers, card=card, cards=cards, states_on_disk=on_disk) for one in trials)]


def answers_told(trials: Sequence[Trial]) -> str:
    """How many answers their evaluations take, in a line: most of the time that a trial does not train."""
    of_trials, frozen = 0, dict[str, int]()
    for trial in trials:
        for setting, times in zip(settings(trial), (len(trial.points), 1), strict=True):
            of_trials += times * len(setting.problems) * len(trial_arms(trial.translator, setting.split))
            frozen |= {setting.key(arm): len(setting.problems) for arm in frozen_arms(setting.split)}
    longest = dict.fromkeys(f"{one.evaluator.max_new_tokens} tokens ({one.evaluator.name})" for one in trials)
    return (
        f"answers to write: {of_trials:,} by arms of trials, {sum(frozen.values()):,} by arms without a translator where they "
        f"are not kept; each of at most {', '.join(longest)}"
    )


def learned_from(trial: Trial, results: Results | None) -> list[str]:
    """The further texts of a trial and the own answers of its target, with their numbers. results: where answers are kept."""
    lines = []
    if trial.mixture:
        pools = trial.mixture.pools(trial.evaluator)
        texts = ", ".join(f"{len(one.texts):,} {one.name}" for one in pools)
        held_out = ", ".join(dict.fromkeys(one.name for one in (trial.evaluator, *trial.mixture.held_out)))
        left_out = sum(one.left_out for one in pools)
        lines.append(f"further texts: {texts}; {left_out:,} more are left out, for dev and test of {held_out} have them")
    if trial.own_answers and results is not None:
        lines.append(f"own answers of {trial.target} on {trial.evaluator.name}: {own_answers.kept(trial, results)}")
    return lines


def prepare(trials: Sequence[Trial], answerer: Answerer, *, device: str, kept: States, results: Results | None = None) -> None:
    """Have their sources read what training will see, and their targets answer it themselves."""
    for trial in trials:
        if trial.own_answers and results is not None:
            own_answers.answered(trial, results, answerer)
        read_ahead(trial, not_loaded(trial, kept, device), answerer)


def replica_share(trials: Sequence[Trial], *, workers: int, card: float, cards: int, kept: States) -> float | None:
    """GiB of a card that a replica may take beside a worker."""
    _, on_disk = states_told(trials, kept, device="cuda")
    return allotment.replica_share(trials, workers=workers, card=card, cards=cards, states_on_disk=on_disk)


def settings(trial: Trial) -> list[Setting]:
    """The dev problems, which it is selected by, and the test problems."""
    return [setting_of(trial, split) for split in JUDGED]


def provenance(trial: Trial) -> dict[str, Any]:
    """Commit, versions, models, prompts and hardware."""
    return provenance_of(trial)


def run(trial: Trial, worker: Worker) -> Ended:
    """Train the translator between its source's states and its target."""
    begun, world = time.perf_counter(), worker.world
    device, beside, answerer = world.device, world.beside, worker.answerer()
    results = Results(worker.run.root)
    kept = results.kept_states(worker.states_budget)

    def told(what: str) -> None:
        log.info("%s, %.1f s", what, time.perf_counter() - begun)

    with ExitStack() as stack:
        source = KeptSource(trial.source, device=device, kept=kept, load=cache(lambda: _loaded(trial, target, beside, stack)))
        reading = Event()
        # What is tokenized is tokenized beside the weights' reading. Before that no number but integers is made there: while
        # transformers builds a model it decides the precision of every thread.
        aside = stack.enter_context(ThreadPoolExecutor(max_workers=1, thread_name_prefix="aside"))
        drawn = list[Future[TranslatorModule]]()

        def draw(met: FrozenLM) -> None:
            widths, rms = (source.width, met.width), met.embedding_rms  # of some models a pass, beside which none may stand
            drawn.append(aside.submit(first_module, trial, world, widths=widths, target_rms=rms))

        with told_to(lambda *_: reading.set()):
            rows = aside.submit(rows_read, trial, source) if world.rank == 0 else None
            if device.type == "cuda":  # of this `_held` finds all that takes time done
                aside.submit(_foreseen, trial, world, reading)
            try:
                target = lm.load(trial.target, device=device, beside=beside, met=draw)
            finally:
                reading.set()
            module = drawn[0].result() if drawn else None  # before another model is built, or a number is drawn
        told(f"{trial.target} is loaded")
        stack.enter_context(target.recording())
        evaluations, problems = Evaluations(trial, answerer), None
        if trial.own_answers:
            world.only_first(lambda: own_answers.answered(trial, results, answerer).there)
            problems = own_answers.kept(trial, results).problems  # every worker reads what is on disk now
        on_disk = world.only_first(lambda: read_ahead(trial, source, answerer, rows.result() if rows else None))
        told(f"states of {trial.source} are looked for")
        share = _held(trial, world, on_disk)
        told("its share of memory is known")
        return train(
            trial,
            run=worker.run,
            source=source,
            target=target,
            world=world,
            evaluations=evaluations,
            report=worker.report,
            interrupted=worker.interrupted,
            predicted=share.cut if share else None,
            held=share.worker if share else None,
            problems=problems,
            module=module,
        )


def conclude(trial: Trial, run: TrialRun, answerer: Answerer) -> None:
    """Its best checkpoint reads the test split; or what a complete trial has lost is computed again."""
    evaluations = Evaluations(trial, answerer)
    if run.complete:
        fill(trial.gaps(run), trial, run, evaluations)
    else:
        conclusion.conclude(trial, run, evaluations)


def _held(trial: Trial, world: World, on_disk: bool) -> Allotment | None:
    """Hold this worker to its share of its cards, which a replica counts on; None where there is none or it is not known."""
    if world.device.type != "cuda":
        return None
    card, share = _allotted(trial, world, on_disk)
    if share:
        for device in world.devices:
            hold_to(device, share.worker)
        log.info("of %.1f GiB this worker takes at most %.1f, its replica the rest", card, share.worker)
    return share


def _allotted(trial: Trial, world: World, on_disk: bool) -> tuple[float, Allotment | None]:
    """GiB of a card, and what of it a worker and a replica may take."""
    card = min(torch.cuda.get_device_properties(device).total_memory for device in world.devices) / GIB
    return card, allotted(trial, workers=world.size, card=card, cards=len(world.devices), states_on_disk=on_disk)


def _foreseen(trial: Trial, world: World, reading: Event) -> None:
    """Lengths are read at once, and what a translator takes is seen when the target's weights are being read."""
    lengths_of(trial.evaluator, trial.target, str(data_folder()), trial.mixture)
    reading.wait()
    _allotted(trial, world, on_disk=True)


def _loaded(trial: Trial, target: FrozenLM, beside: Sequence[torch.device], stack: ExitStack) -> FrozenLM:
    """The source itself, where its states are not kept."""
    log.info("%s itself reads what is not on disk", trial.source)
    if trial.source == trial.target:
        return target
    source = lm.load(trial.source, device=target.device, beside=beside)
    stack.enter_context(source.recording())
    return source
