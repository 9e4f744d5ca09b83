"""Models of eight bits from models in floating point: calibrated, measured against their source, and only then good."""
