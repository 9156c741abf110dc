"""The example beside an exported model: a few lines that run it without kit."""

from collections.abc import Sequence

_LOADS = {
    "savedmodel": """import tensorflow as tf

model = tf.saved_model.load(str(here / "model"))
p = model.serve(images).numpy()  # float32 [B, labels]""",
    "onnx": """import onnxruntime

session = onnxruntime.InferenceSession(here / "model.onnx")
p = session.run(None, {session.get_inputs()[0].name: images})[0]  # float32 [B, labels]""",
    "litert": """from ai_edge_litert.interpreter import Interpreter

model = Interpreter(str(here / "model.tflite"))
image, output = model.get_input_details()[0], model.get_output_details()[0]
model.resize_tensor_input(image["index"], images.shape)
model.allocate_tensors()
model.set_tensor(image["index"], images)
model.invoke()
p = model.get_tensor(output["index"])  # float32 [B, labels]""",
}


def source(name: str, labels: Sequence[str], cuts: Sequence[float | None], shape: Sequence[int | None]) -> str:
    """A script that prints the probabilities of an image file, for the format of that name.

    `cuts` are the decision's, None for labels without one; `shape` is (height, width, channels) of the model's input,
    where None is any.
    """
    height, width, channels = shape
    colour = "GRAY" if channels == 1 else "RGB"
    resized = f"image = cv2.resize(image, ({width}, {height}), interpolation=cv2.INTER_AREA)\n" if height else ""
    return f'''"""python example.py IMAGE: what the model says of an image, PNG or JPEG."""

import sys
from pathlib import Path

import cv2

here = Path(__file__).parent
labels = {list(labels)!r}
cuts = {list(cuts)!r}  # from which on a label counts as present; None: the likeliest label is meant
image = cv2.cvtColor(cv2.imread(sys.argv[1]), cv2.COLOR_BGR2{colour})
{resized}images = image.reshape(1, *image.shape[:2], {channels})  # uint8 [B, height, width, {channels}]
{_LOADS[name]}
for label, value, cut in zip(labels, p[0], cuts, strict=True):
    print(f"{{label}}\\t{{value:.6f}}" + ("" if cut is None else "\\tyes" if value >= cut else "\\tno"))
'''
