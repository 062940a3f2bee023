"""The packed file: framing, records, index, reading and writing."""
