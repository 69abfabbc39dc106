"""Training of one trial in plain torch, the same on one worker and on many: `loop.train`, made of steps of `step.Trainer`."""
