"""A trained translator as a Python object, saved for the hub, put before an engine, and measured by others' tasks.

`load` finds it, `bridge` answers with it, `saved` and `card` lay it out for the hub, `engine` asks an inference server that
takes prompts as embeddings, `harness` is a model of lm-evaluation-harness.
"""
