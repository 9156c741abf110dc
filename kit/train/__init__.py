"""Training: sees a model and batches (anything Keras's `fit` takes), never file formats."""
