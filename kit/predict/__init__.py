"""From a trained model and batches to prediction tables."""
