"""The example beside an exported model: a few lines that run it without kit."""

from collections.abc import Sequence

from kit.decisions import Decision
from kit.evaluate.decision import class_factors, label_cuts

_IMPORTS = {
    "savedmodel": "import tensorflow as tf",
    "onnx": "import onnxruntime",
    "litert": "from ai_edge_litert.interpreter import Interpreter",
}
_LOADS = {
    "savedmodel": """model = tf.saved_model.load(str(here / "model"))
p = model.serve(images).numpy()  # float32 [B, labels]""",
    "onnx": """session = onnxruntime.InferenceSession(here / "model.onnx")
p = session.run(None, {session.get_inputs()[0].name: images})[0]  # float32 [B, labels]""",
    "litert": """model = Interpreter(str(here / "model.tflite"))
image, output = model.get_input_details()[0], model.get_output_details()[0]
model.resize_tensor_input(image["index"], images.shape)
model.allocate_tensors()
model.set_tensor(image["index"], images)
model.invoke()
p = model.get_tensor(output["index"])  # float32 [B, labels]""",
}


def source(name: str, decision: Decision, shape: Sequence[int | None]) -> str:
    """A script that prints probabilities and decision for an image file, by a model in the format of that name.

    `shape` is (height, width, channels) of the model's input, where None is any.
    """
    height, width, channels = shape
    colour = "GRAY" if channels == 1 else "RGB"
    shrunk = f"image = cv2.resize(image, ({width}, {height}), interpolation=cv2.INTER_AREA)  # as kit shrinks them\n"
    resized = shrunk if height else ""
    return f'''"""python example.py IMAGE: what the model says of an image, PNG or JPEG."""

import sys
from pathlib import Path

import cv2
{_IMPORTS[name]}

here = Path(__file__).parent
labels = {list(decision.labels)!r}
image = cv2.cvtColor(cv2.imread(sys.argv[1]), cv2.COLOR_BGR2{colour})
{resized}images = image.reshape(1, *image.shape[:2], {channels})  # uint8 [B, height, width, {channels}]
{_LOADS[name]}
{_decided(decision)}
for label, value, yes in zip(labels, p[0], decided, strict=True):
    print(f"{{label}}\t{{value:.6f}}\t{{'yes' if yes else 'no'}}")
'''


def _decided(decision: Decision) -> str:
    """Lines that decide as kit.evaluate.decision does."""
    if decision.classes is None:
        return f"decided = p[0] >= {label_cuts(decision).tolist()}  # a label counts as present from its cut on"
    factors = class_factors(decision).tolist()
    weighed = "p[0]" if set(factors) == {1.0} else f"p[0] * {factors}"
    return f"weighed = {weighed}\ndecided = weighed == weighed.max()  # exclusive classes: one of them is meant"
