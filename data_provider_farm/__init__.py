"""Datasets on disk: annotation readers, the packed file (write, read, inspect), synthetic faces.

To add an annotation format, write one module with a function `read_<format>(images, annotations, …) -> Listing` on the
parts in `annotations.py` (see `voc.py`), and name it in `pack.py`: in `Format`, and in `read_source`.
"""
