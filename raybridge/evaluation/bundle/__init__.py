"""A result that others can check: a trial's bundle written, and one from elsewhere verified.

`export` gathers the files (`rows` what every arm answered, `frames` what stood around the questions, `tables` what
`evaluate` prints of them, `notes` what a reader must know); `verify` checks them against one another, and `again` computes a
sample of the rows once more where models and benchmark are here. `results.bundle` knows the files.
"""
