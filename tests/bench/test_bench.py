"""Each bench runs, on tiny models of random weights, and what it is held against does the same work."""
