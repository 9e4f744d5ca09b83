"""Where vectors are kept: one protocol, one folder a store."""
