"""Explainers, one file per method family. Importing :mod:`service.explainers.registry` fills ``EXPLAINERS``."""
