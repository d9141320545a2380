"""What skl2onnx asks of a transformer: the shape of its output, and its nodes in a graph."""

from typing import Any

from hebbcore import checks
from hebbcore.bridges.onnx_graph import Graph, Tensor
from hebbcore.engine.pixel_scale import require_bytes
from hebbcore.features.choice import Features
from hebbcore.formulas import Formula
from hebbcore.formulas.pointwise import flat

_LEAST_OPSET = 13  # since then the axes of sums are an input


def set_output_type(features: Features, operator: Any) -> None:
    """Tell skl2onnx of an operator's output: (n, features), double as the input is, or float."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    kind = DoubleTensorType if isinstance(operator.inputs[0].type, DoubleTensorType) else FloatTensorType
    operator.outputs[0].type = kind([None, features.size])


def add_nodes(features: Features, scope: Any, operator: Any, container: Any) -> None:
    """Add what makes features of images, or of flattened images, to a container of skl2onnx."""
    from onnx import TensorProto, helper, numpy_helper
    from skl2onnx.common.data_types import DoubleTensorType, UInt8TensorType

    if container.target_opset < _LEAST_OPSET:
        problem = f"must be {_LEAST_OPSET} or more for Hebbian transformers, got {container.target_opset}."
        raise checks.wrong(ValueError, "to_onnx", "target_opset", problem)
    formula = Formula.checked("to_onnx", features.network, features.layer, features.mirror)
    shape = features.network.image_shape or ()
    graph, given = Graph(scope.get_unique_variable_name), operator.inputs[0]
    images = graph.reshape(graph.floating(Tensor(graph, given.onnx_name)), (-1, *shape))
    if isinstance(given.type, UInt8TensorType):
        require_bytes(features.network.pixel_scale, "to_onnx", "X")
        images = images / 255.0
    maps = graph.transpose(images, (0, 3, 1, 2)) if len(shape) == 3 else images
    rows = flat(graph, formula(graph, formula.arrays, maps), features.shape)
    if isinstance(given.type, DoubleTensorType):
        rows = graph.node("Cast", rows, to=TensorProto.DOUBLE)
    graph.name_output(operator.outputs[0].onnx_name, rows)
    for name, array in graph.arrays.items():
        tensor = numpy_helper.from_array(array, name)
        container.add_initializer(name, tensor.data_type, None, tensor)
    for node in graph.nodes:
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        container.add_node(node.op_type, list(node.input), list(node.output), name=node.name, **attributes)
