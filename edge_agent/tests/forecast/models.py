"""Models that do what a test needs, as ONNX files."""

from collections.abc import Callable

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edge_agent.forecast.features import BASE, NAMES
from edge_agent.forecast.horizon import HORIZON
from protos import model_file

METADATA = {model_file.NAME_KEY: model_file.SITE_FORECAST, model_file.FORMAT_KEY: model_file.FORMAT}


def model(
    make: Callable[[str], list[NodeProto]], *, told: dict[str, str] = METADATA, shape: tuple[int, ...] = (HORIZON,)
) -> bytes:
    """make: nodes from the input of a name to its output `NAME_share`."""
    names = ("load", "sun")
    graph = helper.make_graph(
        [node for name in names for node in make(name)],
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [HORIZON, len(NAMES)]) for name in names],
        [helper.make_tensor_value_info(f"{name}_share", TensorProto.FLOAT, shape) for name in names],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(made, told)
    return bytes(made.SerializeToString())


def constant(value: float, shape: tuple[int, ...] = (HORIZON,), **given: object) -> bytes:
    """Says the same whatever it is shown."""
    tensor = numpy_helper.from_array(np.full(shape, value, np.float32))
    return model(
        lambda name: [helper.make_node("Constant", [], [f"{name}_share"], value=tensor)],
        shape=shape,
        **given,  # type: ignore[arg-type]
    )


def column(index: int = BASE, factor: float = 1.0) -> bytes:
    """Says what stands in a column of the features, times a factor: by default a plain, good forecast."""

    def make(name: str) -> list[NodeProto]:
        at = numpy_helper.from_array(np.array(index, np.int64))
        by = numpy_helper.from_array(np.array(factor, np.float32))
        return [
            helper.make_node("Constant", [], [f"{name}_at"], value=at),
            helper.make_node("Constant", [], [f"{name}_by"], value=by),
            helper.make_node("Gather", [name, f"{name}_at"], [f"{name}_column"], axis=1),
            helper.make_node("Mul", [f"{name}_column", f"{name}_by"], [f"{name}_share"]),
        ]

    return model(make)


def hungry() -> bytes:
    """Wants 4 GB of memory."""

    def make(name: str) -> list[NodeProto]:
        shape = numpy_helper.from_array(np.array([1 << 30], np.int64))
        last = numpy_helper.from_array(np.array([HORIZON], np.int64))
        first = numpy_helper.from_array(np.array([0], np.int64))
        # A random tensor cannot be folded away, nor made smaller.
        return [
            helper.make_node("Constant", [], [f"{name}_size"], value=shape),
            helper.make_node("ConstantOfShape", [f"{name}_size"], [f"{name}_zeros"]),
            helper.make_node("RandomUniformLike", [f"{name}_zeros"], [f"{name}_all"], seed=1.0),
            helper.make_node("Constant", [], [f"{name}_first"], value=first),
            helper.make_node("Constant", [], [f"{name}_last"], value=last),
            helper.make_node("Slice", [f"{name}_all", f"{name}_first", f"{name}_last"], [f"{name}_share"]),
        ]

    return model(make)
