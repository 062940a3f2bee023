"""From bytes to pixels: one walk over a JPEG's header, one EXIF turn, one set of limits, one decoder per format."""
