"""Owns the version: pyproject.toml takes the package's from here."""

__version__ = "0.1.0"
