"""What shows a launch elsewhere while it runs: TensorBoard, Weights & Biases, MLflow. One run a trial. No torch, no Ray.

They are told what stands in the results on disk, by the command's own process: a tracker that fails loses no result.
"""

from raybridge.trackers.choice import LogTo, built
from raybridge.trackers.following import Following, following

__all__ = ["Following", "LogTo", "built", "following"]
