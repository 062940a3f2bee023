"""Batches in memory: crop sampling, pixel jitter, label maps, multi-threaded prefetch."""
