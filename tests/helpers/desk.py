"""The sweep command as a person has it: a file, a folder of results, and launches that can be killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from raybridge import HOUSE
from raybridge.results import Results, TrialRun
from raybridge.scales import POCKET
from raybridge.sweep_file import load
from raybridge.training.worker import engine_of
from raybridge.trial import Workload

WITHOUT_RUNS = {"RAY_TRAIN_ENABLE_STATE_TRACKING": "0"}  # on the dashboard: a process less, and seconds of its start
AS_OTHERS = {"RAY_worker_niceness": "0"}  # else Ray's processes give way to the tests beside them, and time runs out


@dataclass
class Launch:
    """One run of the command, in a session of its own."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf8")

    def until(self, happened: Callable[[], bool], *, seconds: float = 240) -> None:
        ends = time.monotonic() + seconds
        while not happened():
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.said}"
            assert time.monotonic() < ends, f"waited {seconds} s:\n{self.said}"
            time.sleep(0.05)

    def killed(self, *, grace: float = 5) -> None:
        """SIGKILL to the command; what Ray leaves behind of it after the grace, in seconds, is ended too."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        _, left = psutil.wait_procs(children, timeout=grace)
        for process in left:
            with suppress(psutil.NoSuchProcess):  # it may end by itself in this very moment
                process.kill()


@dataclass
class Desk:
    """A sweep of one trial and where its results are. environment: what its processes are given besides. at: called from."""

    folder: Path
    file: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    at: Path = HOUSE

    @property
    def results(self) -> Results:
        return Results(self.folder / "results")

    @property
    def trial(self) -> Workload:
        (trial,) = load(self.file).trials(POCKET)
        return engine_of(trial).sealed(trial, device="cpu")

    @property
    def run(self) -> TrialRun | None:
        return self.results.find(self.trial.fingerprint)

    def launch(self, environment: Mapping[str, str] = WITHOUT_RUNS) -> Launch:
        """environment: what its processes are given besides."""
        log = self.folder / f"{time.monotonic_ns()}.log"
        own = {name: value for name, value in os.environ.items() if not name.startswith("RAY")} | {"NUM_GPUS": "0"} | AS_OTHERS
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "raybridge.sweep", str(self.file), "--results", str(self.results.root)],
                cwd=self.at,
                env=own | self.environment | environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Launch(process, log)
