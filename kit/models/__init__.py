"""Models in pure Keras 3 (`keras.ops`): cards ← registry (untrained networks) ← saved models ← pre-trained weights.

Each family of networks is one file: `applications`, `backbones`, `classic`; `keras_hub` and `tensorflow_hub` wrap
libraries.
"""
