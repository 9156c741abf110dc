"""How good predictions are, and what is decided from them: arrays and tables only, no Keras."""
