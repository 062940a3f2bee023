"""ONNX detectors of other projects, run side by side with ours."""
