"""A Keras model as LiteRT with 8-bit integers, quantised after training (Jacob et al. 2018, arXiv:1712.05877).

Weights (by channel) and activations are int8, their ranges those of some real images. What follows the last but one
layer with weights stays float32: pooling, standardisation, logits, calibration and the mean over folds. It costs next
to nothing, while int8 would leave 256 different probabilities, a few of them for a rare label. Images stay uint8,
probabilities float32.
"""

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kit import files
from kit.errors import ConfigError
from kit.export.formats import Function, require, run_litert, write_saved_model
from kit.runtime.devices import import_tensorflow, muted

_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL")


def write(model: keras.Model, images: np.ndarray, path: Path) -> Function:
    """Write a model quantised by the ranges that its activations have on `images` (uint8 [n, H, W, C]).

    Returns what was written as a function. Raises ConfigError for a model that cannot be held, with the reason; then
    nothing is written.
    """
    require("litert")
    keras.ops.convert_to_numpy(model(images[:1], training=False))  # Keras exports models that were called
    try:
        with muted(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TensorFlow's own, on its interpreter
            content = _quantised(model, images)
        with files.replacing(path) as part:
            part.write_bytes(content)
        with muted():
            function = run_litert(path)
            found = function(images[:1])
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the converter raises anything over an operation that it does not know
        path.unlink(missing_ok=True)
        reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise ConfigError(f"--int8 cannot hold this model ({reason}): leave --int8 out") from error
    if not np.isfinite(found).all():
        path.unlink()
        raise ConfigError("--int8 cannot hold this model: it says what is no number: leave --int8 out")
    return function


def _quantised(model: keras.Model, images: np.ndarray) -> bytes:
    lite = import_tensorflow().lite

    def representative() -> Iterator[list[np.ndarray]]:
        for image in images:
            yield [image[None]]

    with tempfile.TemporaryDirectory() as folder:
        write_saved_model(model, Path(folder))
        converter = lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [lite.Optimize.DEFAULT]
        converter.representative_dataset = representative
        debugger = lite.experimental.QuantizationDebugger(converter=converter, debug_dataset=representative)
        names = _last(debugger.calibrated_model)
        debugger.options = lite.experimental.QuantizationDebugOptions(denylisted_nodes=names)
        content: bytes = debugger.get_nondebug_quantized_model()
        return content


def _last(content: bytes) -> list[str]:
    """Names of what the operations of a LiteRT model give that follow its last but one layer with weights."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    graph, names = model.subgraphs[0], _names_of_operations(schema.BuiltinOperator)
    operations = [(names.get(_code(model, each)), each.inputs, each.outputs) for each in graph.operators]
    chosen = last_operations(operations)
    return [graph.tensors[tensor].name.decode() for n in chosen for tensor in operations[n][2]]


def last_operations(operations: Sequence[tuple[str | None, Sequence[int], Sequence[int]]]) -> list[int]:
    """Numbers of the operations (name, tensors in, tensors out; in order) after the last but one with weights."""
    layers_after: dict[int, int] = {}  # of a tensor: how many layers with weights lie behind it, at most
    chosen = []
    for n, (name, inputs, outputs) in reversed(list(enumerate(operations))):
        layers = max((layers_after.get(tensor, 0) for tensor in outputs), default=0) + (name in _WEIGHTED)
        if layers <= 1:
            chosen.append(n)
        for tensor in inputs:
            layers_after[tensor] = max(layers, layers_after.get(tensor, 0))
    return chosen


def _code(model: Any, operation: Any) -> int:
    code = model.operatorCodes[operation.opcodeIndex]
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))


def _names_of_operations(codes: type) -> dict[int, str]:
    return {value: name for name, value in vars(codes).items() if isinstance(value, int)}
