"""Readers of annotation formats (COCO, Pascal VOC, YOLO, WIDER FACE, CSV, LFFD): one file each, and shared checks."""
