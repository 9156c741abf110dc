"""A model, a loss and a layer of one's own, as they would stand in a file outside kit."""

from kit import extensions
from kit.config.load import CONFIGS

CODE = '''
import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("own")
class Scale(layers.Layer):
    """Multiplies each channel by a weight of its own."""

    def build(self, shape):
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, x):
        return x * self.factor


def small_cnn(*, shape, outputs, activation, filters=(4, 8)):
    """Convolutions, a layer of one's own, and kit's head."""
    from kit.models.heads import head, image_input

    inputs = image_input(shape)
    x = layers.Rescaling(1 / 255)(inputs)
    for count in filters:
        x = layers.MaxPooling2D()(layers.Conv2D(count, 3, activation="relu")(x))
    return keras.Model(inputs, head(Scale()(x), outputs, activation, units=[], dropout=0), name="small_cnn")


def squares(y, p):
    """The mean squared error over the known labels of each row."""
    known = ops.where(ops.isnan(y), 0.0, 1.0)
    return ops.sum(known * ops.square(ops.where(ops.isnan(y), 0.0, y) - p), axis=-1)


class Grain(layers.Layer):
    """Noise of two grey levels."""

    def __init__(self, seed=0):
        super().__init__()
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, x, training=False):
        return ops.clip(x + keras.random.normal(ops.shape(x), 0, 2, seed=self.seed_generator), 0, 255)
'''


def name_in(path, name, text=CODE):
    """The name, with its digest, of something in a file that is written with that text."""
    path.write_text(text)
    return extensions.named(f"{path.name}:{name}", path.parent, CONFIGS)
