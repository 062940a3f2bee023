"""Latency by engine, resolution, precision, threads and batch."""
