"""The pocket pair: two tiny language models that ship with the package, and `problems.generated`, what they were trained on.

`python -m raybridge.pocket` makes them; `pocket:source` and `pocket:target` are their names.
"""
