"""Frozen language models: `lm.load` finds one by name and sees that it is understood; it hands out a `frozen.FrozenLM`.

`prompts.frame` is everything around a question, `pieces` are batches of embeddings, `decode.greedy` completes them.
"""
