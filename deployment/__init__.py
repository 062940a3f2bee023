"""Export, quantisation, trimming, serving, and the parity reports that gate them.

Every command here writes only what it has run and compared with another engine, MXNet where it is installed
(`parity.py`). To add an export format: write the file from `Model.graph` in one function, run it, hand `measure_parity`
the function that runs it, and `check` before writing; `export_ncnn.py` is the shortest example. Engines that run models
inside the project live in `lffd/engines`.

`serve.py` and `export_page.py` offer models to a browser (`page`), and over HTTP.
"""
