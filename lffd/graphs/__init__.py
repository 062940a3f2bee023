"""The one description of a network: its graph, what follows from it, and the forms in which it travels."""
