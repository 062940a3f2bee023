"""Network definitions as MXNet symbols: one short file per version, on a shared builder.

To add a version: write `symbol_<name>.py` with its `NETWORK` and `get_net_symbol`, as the files here do, and list it
in `versions.py`. Geometry, parameter names and layer tables follow from the declaration; see CONTRIBUTING.md.
"""
