"""Earlier runs join ray_results/, marked as imported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from raybridge.analysis.measures import summarised
from raybridge.config import fingerprint, resolve
from raybridge.data import Evaluator
from raybridge.evaluation.earlier.records import Evaluation, Recorded, runs_on
from raybridge.results import Results, TrialRun


def write_run(recorded: Recorded, results: Results, evaluator: Evaluator) -> TrialRun:
    """Write a run into the results; writing it again changes nothing."""
    options = dict(recorded.log.config)
    seed = options.pop("seed", None)  # as it was written, unless that is no number
    config = {
        "imported": True,
        "source": options.pop("source_model", None),
        "target": options.pop("target_model", None),
        "translator": {"soft_tokens": recorded.log.soft_tokens},
        "evaluator": resolve(evaluator),
        "seed": seed if recorded.log.seed is not None else None,
        "recorded": options,
    }
    run = results.open_trial(
        name=recorded.name,
        fingerprint=fingerprint({**config, "files": recorded.digests}),
        config=config,
        provenance={"imported": True, "files": recorded.digests, "notes": list(recorded.notes)},
    )
    logged = set(run.metrics()["step"])
    for step, loss in recorded.log.losses.items():
        if step not in logged:
            run.append_metrics({"step": step, "loss": loss})
    for one in recorded.evaluations:
        run.write_samples(evaluator.name, "test", one.step, one.samples)
    run.add_evals(row for one in recorded.evaluations for row in eval_rows(one, evaluator))
    run.finish(_result(recorded, run, evaluator.readings))
    return run


def eval_rows(one: Evaluation, evaluator: Evaluator) -> Iterator[dict[str, Any]]:
    """Rows of evals.parquet; ran_on counts the completions in which decoding as we do it would have stopped."""
    told = summarised(one.samples, step=one.step, split="test", evaluator=evaluator.name, readings=evaluator.readings)
    ran_on = one.samples.groupby("arm")["completion"].agg(lambda part: sum(runs_on(text, evaluator) for text in part))
    for row in told:
        yield {**row, "ran_on": int(ran_on[row["arm"]]), "recorded_as": one.label, "imported": True}


def _result(recorded: Recorded, run: TrialRun, readings: Sequence[str]) -> dict[str, Any]:
    """result.json: peak over the evaluations during training, final from the last one."""
    first = readings[0]
    evals = run.evals()
    bridged = evals[(evals["arm"] == recorded.bridge) & (evals["reading"] == first)].set_index("step")["accuracy"]
    during = [one.step for one in recorded.evaluations if one.label != "final"]
    last = recorded.evaluations[-1].step
    peak_step = max(during or [last], key=lambda step: (bridged[step], -step))
    final = evals[evals["step"] == last]
    return {
        "name": run.name,
        "fingerprint": run.fingerprint,
        "imported": True,
        "folder": recorded.folder,
        "steps": recorded.log.last_step if recorded.log.last_step is not None else last,
        "stopped": recorded.log.stopped,
        "reason": recorded.log.reason,
        "peak": bridged[peak_step],
        "peak_step": peak_step,
        "final": bridged[last],
        "degradation": bridged[peak_step] - bridged[last],
        "test": {
            arm: {
                row.reading: {"accuracy": row.accuracy, "n": row.n, "low": row.low, "high": row.high}
                for row in part.itertuples()
            }
            for arm, part in final.groupby("arm")
        },
        "notes": list(recorded.notes),
    }
