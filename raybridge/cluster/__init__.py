"""Everything that touches Ray, and nothing else does: `session.cluster`, `tuner.run_trials`, `replicas.ReplicaPool`.

Ray reads these switches when it is imported, so they are set here, before any module of this package imports it. What a
user has set stays. Without the first, a report takes seconds and a trial tens of seconds to start.
"""

import os
from pathlib import Path

SWITCHES = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(30 * 24 * 3600),  # a trial waits for the devices of the one before it
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",  # runs appear on the dashboard
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a replica with num_gpus=0 keeps its view of the GPUs
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours: checkpoint, then end
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_worker_maximum_startup_concurrency": "8",  # a trial is several processes; they need not start one after another
}
for _name, _value in SWITCHES.items():
    os.environ.setdefault(_name, _value)
TOKEN = Path("~/.ray/auth_token")
if os.environ.get("RAY_ADDRESS") and TOKEN.expanduser().exists():
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # `ray start` asks for the token by itself, `ray.init` does not send it
