"""Networks as one ONNX file, as the agent runs it."""

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

from edge_agent.forecast.features import NAMES
from edge_agent.forecast.horizon import HORIZON
from hil.train.network import Network
from protos import model_file

_OPSET, _IR = 17, 8  # of 2022: an onnxruntime that stands on a gateway for years knows them


def export(networks: Mapping[str, Network], told: Mapping[str, str]) -> bytes:
    """An input `NAME` and an output `NAME_share` for each network. told: more metadata."""
    nodes: list[NodeProto] = []
    constants: list[TensorProto] = []
    for name, network in networks.items():
        _add(name, network, nodes, constants)
    graph = helper.make_graph(
        nodes,
        model_file.SITE_FORECAST,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [HORIZON, len(NAMES)]) for name in networks],
        [helper.make_tensor_value_info(f"{name}_share", TensorProto.FLOAT, [HORIZON]) for name in networks],
        constants,
    )
    model: ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR, producer_name="murmuration"
    )
    helper.set_model_props(
        model, {model_file.NAME_KEY: model_file.SITE_FORECAST, model_file.FORMAT_KEY: model_file.FORMAT, **told}
    )
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _add(name: str, network: Network, nodes: list[NodeProto], constants: list[TensorProto]) -> None:
    def constant(what: str, value: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value), f"{name}.{what}"))
        return f"{name}.{what}"

    def node(operator: str, inputs: list[str], what: str) -> str:
        nodes.append(helper.make_node(operator, inputs, [what]))
        return what

    value = node("Sub", [name, constant("mean", network.mean)], f"{name}.centred")
    value = node("Div", [value, constant("spread", network.spread)], f"{name}.scaled")
    last = len(network.weights) - 1
    for number, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        value = node("MatMul", [value, constant(f"weight{number}", weight)], f"{name}.product{number}")
        value = node("Add", [value, constant(f"bias{number}", bias)], f"{name}.sum{number}")
        if number < last:
            value = node("Relu", [value], f"{name}.layer{number}")
    axis, column = constant("axis", np.array([1], np.int64)), constant("base", np.array([network.base], np.int64))
    base = node("Gather", [name, column], f"{name}.base_column")
    nodes[-1].attribute.append(helper.make_attribute("axis", 1))
    value = node("Relu", [node("Add", [value, base], f"{name}.total")], f"{name}.positive")
    node("Squeeze", [value, axis], f"{name}_share")
