"""A setting becomes requests and requests become rows, each computed once and kept.

`setting` says which models answer which problems; `prompt` puts a batch to a model as an arm does, `answering` gives its
rows, `scoring` and `costs` what they are worth; `answerer` is who does that (this process, or replicas). `keeping.Keeper` is
the one way to rows: read where they are kept, else computed. `evaluations` serves a trial while it trains, `card` the command.
"""
