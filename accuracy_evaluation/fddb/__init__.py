"""FDDB: files, regions, protocol, report."""
