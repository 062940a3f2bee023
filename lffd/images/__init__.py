"""From bytes to pixels: one guard for every picture that comes from outside, and one way to read JPEG headers."""
