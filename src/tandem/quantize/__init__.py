"""Models of eight bits from models in floating point: calibrated, and measured against their source."""
