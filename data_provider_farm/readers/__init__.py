"""Readers of annotations: one file per format, and the checks that all of them share."""
