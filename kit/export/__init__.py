"""A run's models and its decision as one network, in formats that need no kit."""
