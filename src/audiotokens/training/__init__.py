"""Training: packed data, losses, and a loop that resumes exactly.

`audiotokens.training.pack.pack` makes the data, `audiotokens.training.loop.train` trains.
"""
