"""Results as a sweep would have written them, from a simulation: problems have a difficulty, arms a skill."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd

from raybridge.arms import find
from raybridge.results import Results, TrialRun
from raybridge.results.baselines import digest, identity_in, key_of
from raybridge.statistics import wilson

READINGS = ("strict", "flexible")
SKILL = {"target": 2.2, "source": 1.4, "token_budget": -0.2, "no_context": -6.0, "zero": -6.0, "cascade": 1.6}
FROZEN = ("source", "target", "token_budget", "no_context", "zero")  # kept as baselines, as a sweep does
BESIDE = ("bridged_with_text", "shuffled_with_text")  # the question as text
BITS = {"bridged_fp16": 16, "bridged_int8": 8, "bridged_int6": 6, "bridged_int4": 4}
WIDTH = 96  # of the target
MODEL = {"weights": "w", "tokenizer": "t", "template": ""}
CONTENTS = {
    **{"source": MODEL, "target": {**MODEL, "weights": "v"}, "others": [], "device": "cpu", "precision": "float32"},
    "benchmark": {
        **{"readings": list(READINGS), "instruction": "", "before": "Question:", "after": "Answer:", "stop": []},
        **{"max_new_tokens": 96, "exemplars": "e", "source_prompt": "p", "target_prompt": "q"},
        **{"train": "1", "dev": "2", "test": "3"},
    },
    **{"answering": 1, "arms": []},
}
NLL = {"target": 0.45, "source": 0.6, "token_budget": 0.9, "no_context": 1.4, "zero": 1.6, "cascade": 0.5}


def config(name: str, *, soft_tokens: int, seed: int, **changes) -> dict:
    plain = {
        "class": "raybridge.trial:Trial",
        "name": name,
        "source": "pocket:source",
        "target": "pocket:target",
        "translator": {
            "class": "raybridge.translators.bottlenecked:Bottlenecked",
            "soft_tokens": soft_tokens,
            "layers": [0, 2, 4],
            "width": 128,
        },
        "losses": [
            {"class": "raybridge.losses.next_token:AnswerNLL", "weight": 1.0},
            {"class": "raybridge.losses.next_token:Reconstruction", "weight": 1.0},
        ],
        "evaluator": {"class": "evaluators.pocket:Pocket", "VERSION": 1},
        "seed": seed,
        "steps": 1000,
        "stopping": {"class": "raybridge.stopping:Stopping", "patience": None, "degradation": 0.05, "significance": 0.05},
    }
    return plain | changes


def fingerprint(plain: dict) -> str:
    named = {key: value for key, value in plain.items() if key != "name"}
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()


def answers(rng: np.random.Generator, split: str, arm: str, skill: float, difficulty: np.ndarray) -> dict:
    """Columns of the sample rows of one arm on all problems."""
    n = len(difficulty)
    strict = rng.random(n) < 1 / (1 + np.exp(difficulty - skill))
    flexible = strict | (rng.random(n) < 0.02)
    invalid = ~strict & (rng.random(n) < 0.05)
    return {
        "problem": [f"pocket/{split}/{i}" for i in range(n)],
        "arm": arm,
        "prompt_hash": "0" * 16,
        "completion": [f"So it is {3 * i % 17}. #### {3 * i % 17}" for i in range(n)],
        "generated_tokens": rng.integers(10, 40, n),
        "truncated": rng.random(n) < 0.01,
        "nll_tokens": rng.integers(20, 60, n),
        "answer_strict": np.where(invalid, None, "17"),
        "answer_flexible": "17",
        "score_strict": strict.astype(float),
        "score_flexible": flexible.astype(float),
    }


def rows_of(samples: pd.DataFrame, *, step: int, split: str, evaluator: str = "pocket") -> list[dict]:
    """Rows of evals.parquet."""
    rows = []
    empty = pd.Series([None])
    for arm, part in samples.groupby("arm", sort=False):
        n = len(part)
        of_all = {
            "truncated": int(part["truncated"].sum()),
            "nll": part["nll"].sum() / part["nll_tokens"].sum(),
            "nll_tokens": int(part["nll_tokens"].sum()),
            **{key: part[key].mean() for key in ("prompt_tokens", "question_tokens", "generated_tokens")},
            **{key: part[key].mean() for key in ("question_bytes", "wire_bytes") if part.get(key, empty).notna().all()},
            "soft_tokens": int(part["soft_tokens"].max()),
            "seconds": part["seconds"].sum(),
        }
        for reading in READINGS:
            correct = float(part[f"score_{reading}"].sum())
            low, high = wilson(round(correct), n)
            rows.append(
                {
                    **{"step": step, "evaluator": evaluator, "split": split, "arm": arm, "reading": reading, "n": n},
                    **{"correct": correct, "accuracy": correct / n, "low": low, "high": high},
                    "invalid": int(part[f"answer_{reading}"].isna().sum()),
                    **of_all,
                }
            )
    return rows


def evaluation(seed: int, step: int, split: str, skills: dict[str, tuple[float, float]], k: int, n: int) -> pd.DataFrame:
    """Samples of several arms: arm -> (skill, NLL a token)."""
    difficulty = np.random.default_rng(99 if split == "test" else 98).normal(size=n)
    rng = np.random.default_rng([seed, step, k])
    parts = []
    for arm, (skill, nll) in skills.items():
        soft = k if arm in ("bridged", "shuffled", *BESIDE, "zero", *BITS) else 0
        text = {"no_context": 0, "token_budget": min(k, 45)}.get(arm, 0 if soft and arm not in BESIDE else 45)
        part = answers(rng, split, arm, skill, difficulty)
        part |= dict(soft_tokens=soft, prompt_tokens=12 + text, question_tokens=45)
        part |= dict(nll=part["nll_tokens"] * (nll + 0.1 * difficulty), seconds=0.02 + 0.001 * (12 + text + soft))
        if arm in BITS:
            part |= dict(question_bytes=180, wire_bytes=20 + k * WIDTH * BITS[arm] // 8 + 6 * k * (BITS[arm] < 16))
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def trial(
    root: Path,
    name: str,
    *,
    soft_tokens: int = 16,
    seed: int = 1234,
    level: float = 1.0,
    stopped: bool = False,
    complete: bool = True,
    baselines: bool = True,
    wire: bool = False,
    points: int = 10,
    n: int = 200,
    **changes,
) -> TrialRun:
    """A trial that learns to a skill of `level`; a stopped one falls off after its best."""
    plain = config(name, soft_tokens=soft_tokens, seed=seed, **changes)
    provenance: dict = {"commit": {"id": "abc1234", "dirty": False}, "versions": {"torch": "2.13.0"}}
    provenance["hardware"] = {"machine": "x86_64", "cores": 2, "gpus": []}
    told = plain | {"contents": CONTENTS}
    run = Results(root).open_trial(name=name, fingerprint=fingerprint(plain), config=told, provenance=provenance)
    steps = [plain["steps"] * (i + 1) // points for i in range(points)]
    steps = steps[: int(points * 0.8)] if stopped else steps
    rows, dev = [], {}
    for step in steps:
        share = step / plain["steps"]
        skill = -3 + (3 + level) * min(1.0, 1.6 * share) - (3.0 * max(0.0, share - 0.5) if stopped else 0.0)
        samples = evaluation(
            seed, step, "dev", {"bridged": (skill, 1.5 - 0.25 * (skill + 3) / 2), "shuffled": (-4.5, 1.45)}, soft_tokens, n
        )
        run.write_samples("pocket", "dev", step, samples)
        rows += rows_of(samples, step=step, split="dev")
        dev[step] = rows[-4]["accuracy"], rows[-2]["accuracy"]
    run.add_evals(rows)
    for step in range(10, steps[-1] + 1, 10):
        share = step / plain["steps"]
        run.append_metrics(
            {
                **{
                    "step": step,
                    "loss": 4 * np.exp(-3 * share) + 1.5,
                    "learning_rate": 1e-3 * (1 - share),
                    "gradient_norm": 0.5,
                },
                **{"loss/answer": 2 * np.exp(-3 * share) + 0.7, "weight/answer": 1.0, "gradient/answer": 0.3 + 0.2 * share},
                **{"loss/reconstruction": 2 * np.exp(-2 * share) + 0.8, "weight/reconstruction": 1.0},
                **{"gradient/reconstruction": 0.6 - 0.2 * share, "tokens_per_second": 5e3, "mfu": None, "soft_rms": 0.02},
                **{"soft_rank": 9.0, "seconds": 0.1 * step},
            }
        )
    best = max(dev, key=lambda step: dev[step][0])
    if not complete:
        return run
    at_best = -3 + (3 + level) * min(1.0, 1.6 * best / plain["steps"])
    skills = {"bridged": (at_best, 1.5 - 0.25 * (at_best + 3) / 2), "shuffled": (-4.5, 1.45), "bridged_with_text": (2.1, 0.46)}
    if wire:
        nll = skills["bridged"][1]
        skills |= {arm: (at_best - loss, nll + 0.05 * loss) for arm, loss in zip(BITS, (0, 0, 0.2, 1), strict=True)}
    skills["shuffled_with_text"] = (2.0, 0.47)
    test = evaluation(seed, best, "test", skills, soft_tokens, n)
    run.write_samples("pocket", "test", best, test)
    run.add_evals(rows_of(test, step=best, split="test"))
    if baselines:
        skills = {arm: (SKILL[arm], NLL[arm]) for arm in SKILL}
        skills["token_budget"] = (min(2.2, SKILL["token_budget"] + soft_tokens / 12), NLL["token_budget"])
        for split in ("dev", "test"):
            frozen = evaluation(0, 0, split, skills, soft_tokens, n)
            problems = list(dict.fromkeys(frozen["problem"]))
            for arm in FROZEN:
                rows = frozen[frozen["arm"] == arm].reset_index(drop=True)
                Results(root).write_baseline(baseline_key(arm, plain, split, problems), rows)
        cascade = frozen[frozen["arm"] == "cascade"]
        run.write_samples("pocket", "test", 0, cascade)
        run.add_evals(rows_of(cascade, step=0, split="test"))
    peak, final = dev[best][0], dev[steps[-1]][0]
    run.finish(
        {
            **{
                "name": name,
                "fingerprint": run.fingerprint,
                "steps": steps[-1],
                "stopped": "degradation" if stopped else "finished",
            },
            **{"reason": "", "peak": peak, "peak_step": best, "best_step": best, "final": final, "degradation": peak - final},
            **{"shuffled_dev_at_peak": dev[best][1], "train_seconds": 0.1 * steps[-1], "eval_wait_seconds": 1.0, "test": {}},
        }
    )
    return run


def harden(run: TrialRun, hardening: str, decoding: dict, trained: tuple[str, ...], frozen: tuple[str, ...], **changes) -> None:
    """What `evaluate` leaves of arms with hardened decoding, on half of the test problems."""
    step, results = run.result()["best_step"], Results(run.root)
    samples = run.samples("pocket", "test", step)
    problems = samples["problem"].drop_duplicates().tolist()
    half = problems[: len(problems) // 2]
    rows = samples[samples["arm"].isin(trained) & samples["problem"].isin(half)]
    rows = rows.assign(arm=rows["arm"] + hardening, **changes)
    run.write_samples("pocket", "test", step, pd.concat([samples, rows], ignore_index=True))
    run.add_evals(rows_of(rows, step=step, split="test"))
    for arm in frozen:
        plain = results.baseline(baseline_key(arm, run.config, "test", problems))
        identity = identity_in(find(arm), run.config, run.contents, "test", decoding)
        rows = plain[plain["problem"].isin(half)].assign(arm=arm + hardening, identity=digest(identity))
        results.write_baseline(key_of(identity, "pocket", "test", half), rows)
    results.note_evaluation({"trial": run.fingerprint, "decoding": decoding})


def baseline_key(arm: str, plain: dict, split: str, problems: list[str]) -> str:
    """The key under which a frozen arm of a trial is kept."""
    return key_of(identity_in(find(arm), plain, CONTENTS, split), "pocket", split, problems)


def sweep(root: Path, name: str, runs: list[TrialRun]) -> None:
    """The plan of a sweep that asked for these trials."""
    plan = {"sweep": name, "trials": [{"name": run.name, "fingerprint": run.fingerprint} for run in runs]}
    Results(root).sweep(name).write_plan(plan)


def compression(root: Path, *, tokens=(4, 8, 16, 32), seeds=(1234, 1235, 1236), n: int = 200) -> list[TrialRun]:
    """A compression sweep; the trials with 8 soft tokens degrade and are stopped."""
    runs = []
    for k in tokens:
        level = -2.2 + 1.0 * np.log2(k / 4)
        for seed in seeds:
            name = f"2_stable_s{seed}_{k}tok"
            runs.append(trial(root, name, soft_tokens=k, seed=seed, level=level, stopped=k == 8, n=n))
    sweep(root, "compression", runs)
    return runs


def stability(root: Path, *, seeds=(1234, 1235), n: int = 200) -> list[TrialRun]:
    """A stability sweep: without the fixes a trial falls off, with them it does not."""
    runs = []
    for seed in seeds:
        runs.append(trial(root, f"1a_plain_s{seed}_16tok", seed=seed, level=0.0, stopped=True, n=n, clip=2.0))
        runs.append(trial(root, f"1b_fixed_s{seed}_16tok", seed=seed, level=0.2, n=n, clip=1.0))
    sweep(root, "stability", runs)
    return runs


def loss_ablation(root: Path, *, seeds=(1234, 1235, 1236), n: int = 200) -> list[TrialRun]:
    """A loss ablation: reconstruction helps, the contrastive term alone does not."""
    levels = {"3a_answer": -1.0, "3b_answer_reconstruction": 0.5, "3c_answer_infonce": -1.1, "3d_all": 0.6}
    runs = []
    for number, (name, level) in enumerate(levels.items()):
        for seed in seeds:
            losses = [{"class": "raybridge.losses.next_token:AnswerNLL", "weight": 1.0 + number}]
            runs.append(trial(root, f"{name}_s{seed}_16tok", seed=seed, level=level, n=n, losses=losses))
    sweep(root, "loss_ablation", runs)
    return runs
