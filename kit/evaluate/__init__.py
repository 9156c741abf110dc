"""How good it is: arrays and tables only, no Keras."""
