"""What the model that ships must show, measured for any model folder: `python bench/mini.py --table`."""
