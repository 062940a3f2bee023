"""Measurements of this project's own parts; speed is claimed by these commands, never by timed tests."""
