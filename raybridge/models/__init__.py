"""Frozen language models: `lm.load` finds one by its name and sees that it is understood; `frozen.FrozenLM` is what it hands out.

`prompts.frame` is everything around a question, `pieces` are batches of embeddings, `decode.greedy` completes them.
"""
