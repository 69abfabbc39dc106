"""The only code that knows ray_results/: `Results` is the folder, `TrialRun` what is in it of one trial. No torch, no pickle.

Everything is written to a temporary name and renamed: whatever ends a process, a file is the old one or the new one.
"""

from raybridge.results.schema import CONDITIONING, EVAL_COLUMNS, EVAL_KEYS
from raybridge.results.store import Results
from raybridge.results.trial_run import TrialRun

__all__ = ["CONDITIONING", "EVAL_COLUMNS", "EVAL_KEYS", "Results", "TrialRun"]
