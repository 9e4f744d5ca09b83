"""All of it joined: a run from a recipe to a model folder, its checkpoints and what it says. Start at `loop.py`."""
