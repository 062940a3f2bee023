"""From an image to detections: detector, views, selection, tiling, detectors of other projects, prediction."""
