"""Training of one trial in plain torch, the same on one worker and on many."""
