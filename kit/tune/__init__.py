"""Before the run: search for settings, and for a learning rate."""
