"""A model as it travels: an ONNX file whose metadata says what it is for. Whoever publishes or runs one checks that.

Only the few fields that say so are read (onnx.proto3, ModelProto), by protobuf itself: neither end needs onnx for it.
"""

from typing import Final

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

SITE_FORECAST: Final = "site-forecast"
NAMES: Final = (SITE_FORECAST,)
FORMAT: Final = "1"  # of a model's inputs and outputs: another one is another format
NAME_KEY: Final = "murmuration.model"
FORMAT_KEY: Final = "murmuration.format"
LARGEST_BYTES: Final = 8 << 20


class ModelFileError(ValueError):
    """What is no model file, or one for something else; says why."""


def check(content: bytes, name: str) -> None:
    """Raises ModelFileError unless `content` is an ONNX model that says it is `name`, in a format that we know."""
    if len(content) > LARGEST_BYTES:
        raise ModelFileError(f"is {len(content)} bytes long; a model has at most {LARGEST_BYTES}")
    head = _HEAD()
    try:
        head.ParseFromString(content)
    except message.DecodeError as error:
        raise ModelFileError("is no ONNX model") from error
    if not head.ir_version or not head.graph or not head.opset_import:
        raise ModelFileError("is no ONNX model")
    told = {each.key: each.value for each in head.metadata_props}
    if told.get(NAME_KEY) != name:
        raise ModelFileError(f"is a model of {told.get(NAME_KEY, 'something else')!r}, not of {name!r}")
    if told.get(FORMAT_KEY) != FORMAT:
        raise ModelFileError(f"has format {told.get(FORMAT_KEY, 'none')!r}, not {FORMAT!r}")


def _head() -> type:
    """The message class, under a name of its own in a pool of its own: onnx may be loaded beside it."""
    file = descriptor_pb2.FileDescriptorProto(name="murmuration/model_head.proto", syntax="proto3")
    pair = file.message_type.add(name="Pair")
    head = file.message_type.add(name="ModelHead")
    field = descriptor_pb2.FieldDescriptorProto
    for of, name, number, kind, label in (
        (pair, "key", 1, field.TYPE_STRING, field.LABEL_OPTIONAL),
        (pair, "value", 2, field.TYPE_STRING, field.LABEL_OPTIONAL),
        (head, "ir_version", 1, field.TYPE_INT64, field.LABEL_OPTIONAL),
        (head, "graph", 7, field.TYPE_BYTES, field.LABEL_OPTIONAL),
        (head, "opset_import", 8, field.TYPE_BYTES, field.LABEL_REPEATED),
        (head, "metadata_props", 14, field.TYPE_MESSAGE, field.LABEL_REPEATED),
    ):
        of.field.add(
            name=name,
            number=number,
            type=kind,
            label=label,
            type_name=".Pair" if kind == field.TYPE_MESSAGE else None,
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("ModelHead"))


_HEAD: Final = _head()
