"""Datasets on disk: annotation readers, the packed file (write, read, inspect), synthetic faces."""
