"""Training: two towers learn to agree. Needs torch (`pip install 'tandem-clip[train]'`).

Start at `run/loop.py`, which reads top to bottom as one training run.
"""
