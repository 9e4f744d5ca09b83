"""Groups of options that several commands share, each with what reads it."""
