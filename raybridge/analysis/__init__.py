"""What the numbers say: results and files in, tables and verdicts out. No torch, nothing written but a sweep's summary.

`runs.Runs` is the view of a results folder that figures and the report go by, of what is `readable`; `measures` makes numbers
of sample rows and `kinds` asks their arms; `chosen` is the checkpoint that ranks, `seeds` and `replicates` what another seed
would change, `power` what n problems can show. `configurations`, `standings`, `sweeps` and `cautions` say what they mean;
`findings` and `summary` are a sweep's last word, `progress` its live table, `scorecard`, `compare` and `samples` what
`evaluate` prints.
"""
