"""Siftline: a service that purifies the training sets of visual-inspection models."""

__version__ = "0.1.0"
