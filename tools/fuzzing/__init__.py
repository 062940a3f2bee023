"""Damaged files for everything that reads what comes from outside, and a watchdog over the process that reads them."""
