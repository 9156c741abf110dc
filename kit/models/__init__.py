"""Models: pure Keras 3 (`keras.ops`), one family per file, found by `@register_model`."""
