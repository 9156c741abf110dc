"""Kaggle: client, datasets, kernels, and submissions as resumable jobs. No other room uses the network."""
