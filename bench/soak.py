"""Kill a sweep again and again, at random moments, and hold what comes out against a run that nobody disturbed.

    python bench/soak.py --kills 50 --seed 0

A sweep of two tiny pocket trials is launched; after a random time one of its processes is killed (the command, a training
worker, a replica, Ray's raylet, in turn); where the command does not end well by itself it is launched again, until the sweep
is complete. Then its numbers must be those of the undisturbed run, and the next round begins. At last two sweeps that share
their trials run at once, and what is deleted of a complete trial must come back. Prints a line a kill and the counts.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil

from raybridge.results import Results

SWEEP = '''"""Does it end with the same numbers?"""

from dataclasses import replace

from raybridge.trial import Trial

axes = {{"pocket": dict(soft_tokens={sizes})}}


def trial(base: Trial, *, soft_tokens: int) -> Trial:
    translator = replace(base.translator, soft_tokens=soft_tokens, width=32, depth=1, heads=2)
    cut = dict(steps=60, warmup=4, batch=4, eval_every=10, dev_problems=8, test_problems=8)
    return replace(base, name=f"tiny_{{soft_tokens}}tok", translator=translator, **cut)
'''
VICTIMS = {"driver": "", "worker": "ray::RayTrainWorker", "replica": "ray::Replica", "raylet": "raylet"}
HANGS = 420.0  # seconds after which a command that does not end is counted as hanging
GRACE = 8.0  # seconds that what a killed command leaves behind has to end by itself
TIMED = ["tokens_per_second", "mfu", "seconds"]


@dataclass
class Sweep:
    """A sweep file and its command."""

    file: Path
    root: Path
    launches: int = 0
    children: list[psutil.Process] = field(default_factory=list)

    def launch(self) -> subprocess.Popen[bytes]:
        """The command, in a session of its own."""
        self.launches += 1
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        with self.file.with_suffix(f".{self.launches}.log").open("wb") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "raybridge.sweep", str(self.file), "--scale", "pocket", "--results", str(self.root)],
                env=environment | {"NUM_GPUS": "0"},
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ends(self, process: subprocess.Popen[bytes], *, within: float = HANGS) -> int | None:
        """The exit code; None where it hangs, and is ended."""
        watched = psutil.Process(process.pid)
        until = time.monotonic() + within
        children: list[psutil.Process] = []
        while process.poll() is None and time.monotonic() < until:
            children = watched.children(recursive=True) if watched.is_running() else children
            time.sleep(0.2)
        code = process.poll()
        if code is None:
            process.kill()
            process.wait()
        tidy(children)
        return code

    def to_the_end(self) -> None:
        """Undisturbed."""
        if (code := self.ends(self.launch())) != 0:
            raise RuntimeError(f"the sweep ended with {code} though nobody disturbed it; see {self.file.parent}")


def tidy(children: list[psutil.Process]) -> None:
    """End what a command that is gone leaves behind."""
    _, left = psutil.wait_procs(children, timeout=GRACE)
    for process in left:
        with suppress(psutil.NoSuchProcess):  # it may end by itself in this very moment
            process.kill()


def numbers(root: Path) -> dict[str, pd.DataFrame | dict]:
    """All that must not depend on what happened on the way, by what it is."""
    results = Results(root)
    found: dict[str, pd.DataFrame | dict] = {}
    for run in results.trials():
        result = run.result()
        found[f"result of {run.name}"] = {k: v for k, v in (result or {}).items() if not k.endswith("seconds")}
        found[f"metrics of {run.name}"] = run.metrics().drop(columns=TIMED)
        evals = run.evals().drop(columns="seconds")
        found[f"evals of {run.name}"] = evals.sort_values(["step", "split", "arm", "reading"], ignore_index=True)
    for key in results.baselines():
        rows = results.baseline(key)
        assert rows is not None
        found[f"baseline {key}"] = rows.drop(columns="seconds")
    return found


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two folders of results."""
    first, second = numbers(one), numbers(other)
    told = sorted(first.keys() ^ second.keys())
    for name in sorted(first.keys() & second.keys()):
        a, b = first[name], second[name]
        same = a.equals(b) if isinstance(a, pd.DataFrame) and isinstance(b, pd.DataFrame) else a == b
        if not same:
            told.append(name)
    return told


def victim(process: subprocess.Popen[bytes], kind: str, *, within: float) -> psutil.Process | None:
    """The process to kill, once it is there; None where the command ended before it was."""
    until = time.monotonic() + within
    command = psutil.Process(process.pid)
    while process.poll() is None and time.monotonic() < until:
        if kind == "driver":
            return command
        try:
            found = [one for one in command.children(recursive=True) if one.name().startswith(VICTIMS[kind])]
        except psutil.NoSuchProcess:
            continue
        if found:
            return found[0]
        time.sleep(0.1)
    return None


def kill(sweep: Sweep, kind: str, after: float) -> str:
    """Launch, kill one process after so many seconds, and say how the command ended."""
    process = sweep.launch()
    try:
        process.wait(timeout=after)
        return f"ended with {process.returncode} before it was killed"
    except subprocess.TimeoutExpired:
        pass
    found = victim(process, kind, within=HANGS)
    if found is None:
        sweep.ends(process)
        return "was not there"
    children = psutil.Process(process.pid).children(recursive=True)
    found.send_signal(signal.SIGKILL)
    if kind == "driver":
        process.wait()
        tidy(children)
        return "killed"
    code = sweep.ends(process)
    tidy(children)
    return "hangs" if code is None else f"ended with {code}"


def complete(root: Path, trials: int) -> bool:
    """Whether every trial has its result."""
    return sum(run.complete for run in Results(root).trials()) == trials


def main() -> None:
    """Round after round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="no further kill after so many")
    told = parser.parse_args()
    print(f"seed {told.seed}", flush=True)
    chance, started = random.Random(told.seed), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    file = folder / "soak.py"
    file.write_text(SWEEP.format(sizes=[4, 8]), encoding="utf8")
    straight = folder / "straight"
    Sweep(file, straight).to_the_end()
    lasts = time.monotonic() - started
    print(f"undisturbed: {lasts:.0f} s; logs and results in {folder}", flush=True)
    counts: Counter[str] = Counter()
    root, kills = folder / "killed", 0
    sweep = Sweep(file, root)
    kinds = list(VICTIMS)
    while kills < told.kills and time.monotonic() - started < told.minutes * 60:
        kind, after = kinds[kills % len(kinds)], chance.uniform(0.05, 0.95) * lasts
        how = kill(sweep, kind, after)
        kills += 1
        counts[f"{kind}: {how}"] += 1
        print(f"{kills:3d}  {kind:8s} after {after:5.1f} s: {how}", flush=True)
        if how == "ended with 0" or "before it was killed" in how or complete(root, 2):
            Sweep(file, root, launches=sweep.launches).to_the_end()
            sweep.launches += 1
            told_apart = differences(straight, root)
            counts["rounds ended with the numbers of the undisturbed run" if not told_apart else "rounds that differ"] += 1
            print(f"     complete; differs in: {', '.join(told_apart) or 'nothing'}", flush=True)
            if told_apart:
                root.rename(folder / f"differs-{kills}")
            else:
                shutil.rmtree(root)
    if root.exists():
        sweep.to_the_end()
        told_apart = differences(straight, root)
        counts["rounds ended with the numbers of the undisturbed run" if not told_apart else "rounds that differ"] += 1
        print(f"     complete; differs in: {', '.join(told_apart) or 'nothing'}", flush=True)
    both(folder, straight, counts)
    deleted(file, folder / "both", straight, counts)
    for name, count in sorted(counts.items()):
        print(f"{count:4d}  {name}", flush=True)


def deleted(file: Path, root: Path, straight: Path, counts: Counter[str]) -> None:
    """What is deleted of a complete trial comes back by the same command."""
    run = Results(root).trials()[0]
    (run.path / "evals.parquet").unlink()
    shutil.rmtree(run.path / "samples" / "pocket" / "test")
    Sweep(file, root, launches=900).to_the_end()
    told_apart = differences(straight, root)
    print(f"evals and test samples deleted: differ in: {', '.join(told_apart) or 'nothing'}", flush=True)
    counts["deleted rows came back: " + ("equal" if not told_apart else "not equal")] += 1


def both(folder: Path, straight: Path, counts: Counter[str]) -> None:
    """Two sweeps of the same trials, in one folder of results, at once."""
    root = folder / "both"
    sweeps = []
    for name in ("one", "other"):
        file = folder / f"{name}.py"
        file.write_text(SWEEP.format(sizes=[4, 8] if name == "one" else [8, 4]), encoding="utf8")
        sweeps.append(Sweep(file, root))
    processes = [sweep.launch() for sweep in sweeps]
    codes = [sweep.ends(process) for sweep, process in zip(sweeps, processes, strict=True)]
    told_apart = differences(straight, root)
    print(f"two sweeps at once: ended with {codes}; differ in: {', '.join(told_apart) or 'nothing'}", flush=True)
    counts["two sweeps at once: " + ("equal" if codes == [0, 0] and not told_apart else "not equal")] += 1


if __name__ == "__main__":
    main()
