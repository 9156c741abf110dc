"""Kaggle: client, datasets, kernels, the job that goes on. Only here is the network."""
