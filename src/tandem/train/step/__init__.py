"""A batch to a gradient, and a gradient to a step of the optimiser. Knows no data, no files and no clock."""
