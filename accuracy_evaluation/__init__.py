"""Prediction on images, WIDER FACE and FDDB result files, AP and ROC, plots.

A detector is anything that turns one image into `detection.detections.Detections`: our networks and, through
`detection.peers`, the ONNX files of other projects. `detection.load` makes one from what a user writes after
`--model`. Each protocol has its room (`widerface`, `fddb`): ground truth and result files, the protocol itself as pure
functions, a report; and two commands here: one that runs a detector over images, one that scores anyone's result files.

To add a peer: a decoder and an entry of `KINDS` in `detection.peers`. To add a protocol: follow `fddb`.
"""
