"""Drawn faces with exact boxes: data for the demo and the tests, made on the spot."""
