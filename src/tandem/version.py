"""The version of Tandem: in a file that imports nothing, for what is below the package's public names."""

__version__ = "0.1.0"
