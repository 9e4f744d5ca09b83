"""The model of a run: its table, first weights, towers, and batch norm. Knows no losses, no optimiser and no data."""
