"""WIDER FACE: ground truth, protocol, result files, report."""
