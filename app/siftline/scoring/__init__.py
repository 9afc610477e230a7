"""Trained detectors at work, without torch: loaded once, kept while there is room, asked image by image."""
