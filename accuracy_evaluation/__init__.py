"""Prediction on images, WIDER FACE and FDDB result files, AP and ROC, plots, peers.

A detector is anything that turns one image into `detections.Detections`: our networks and, through `peers`, the ONNX
files of other projects. `model_spec` makes one from what a user writes after `--model`. Each protocol has its files
(`widerface_*`, `fddb_*`): ground truth and result files, the protocol itself as pure functions, a report, and two
commands — one that runs a detector over images, one that scores anyone's result files.

To add a peer: a decoder in `peer_decoders`, an entry in `peer_kinds.KINDS`. To add a protocol: follow FDDB's files.
"""
