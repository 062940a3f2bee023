"""Readers of annotation formats (COCO, Pascal VOC, YOLO, WIDER FACE, CSV, LFFD): one file each, and shared checks.

All of them take `images`, the folder that names of images start from, and `annotations`, a file (VOC and YOLO: a folder
of files); where a format has classes, `class_name` is the only one to take, all when None. They raise a DataError that
names the line or entry at fault when the annotations are not of the format.
"""
