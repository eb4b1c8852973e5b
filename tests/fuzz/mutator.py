"""Mutations of protobuf messages: what is damaged is still a message, so that damage reaches deeper than the parser."""

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, EncodeError, Message

_MOST: Final = 20_000  # messages looked at
_NUMBERS: Final = (0, 1, -1, 2, 3, 8, 64, 127, 128, 255, 256, 65535, 1 << 31, (1 << 31) - 1, 1 << 32, 1 << 62)
_TEXTS: Final = ("", "x", "w", "y", "gs:codebook/gs1", "gs:", "If", "Constant", "Gather", "Reshape", "..", "/", "data")
_FLOATS: Final = (0.0, -0.0, 1.5, float("nan"), float("inf"), 1e-45)


def mutated(data: bytes, seed: int, largest: int) -> bytes | None:
    """A message like the given one with one to four things changed; None where the bytes are no message."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        return None
    rng = random.Random(seed)
    for _ in range(rng.randint(1, 4)):
        places = list(messages(model))
        if not places:
            break
        _change(rng.choice(places), places, rng)
        if model.ByteSize() > largest:
            return None
    try:
        return model.SerializeToString()
    except (EncodeError, ValueError):
        return None


def messages(root: Message) -> Iterator[Message]:
    """A message and those inside it, as far as there are not too many."""
    stack: list[Any] = [root]
    seen = 0
    while stack and seen < _MOST:
        message = stack.pop()
        seen += 1
        yield message
        for field, value in message.ListFields():
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                stack.extend(value if field.is_repeated else [value])


def _change(message: Message, places: list[Message], rng: random.Random) -> None:
    fields: list[Any] = list(message.DESCRIPTOR.fields)
    filled: list[Any] = [field for field, _ in message.ListFields()]
    field = rng.choice(filled if filled and rng.random() < 0.7 else fields)
    if rng.random() < 0.15:
        message.ClearField(field.name)
    elif field.is_repeated:
        _change_list(getattr(message, field.name), field, places, rng)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        _graft(getattr(message, field.name), places, rng)
    else:
        _try(lambda: setattr(message, field.name, _scalar(field, getattr(message, field.name), rng)))


def _change_list(items: Any, field: Any, places: list[Message], rng: random.Random) -> None:
    """Drop, double, replace, add or move an item."""
    action = rng.choice(["drop", "double", "replace", "add", "move"])
    at = rng.randrange(len(items)) if len(items) else None
    if action == "add" or at is None:
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            _graft(items.add(), places, rng)
        else:
            _try(lambda: items.append(_scalar(field, None, rng)))
    elif action == "drop":
        del items[at]
    elif action == "double":
        _try(lambda: items.extend([items[at]]))  # text that was not UTF-8 is refused here
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        if action == "replace":
            _graft(items[at], places, rng)
        else:
            items.extend([items[at]])
            del items[at]
    else:
        _try(lambda: items.__setitem__(at, _scalar(field, items[at], rng)))


def _graft(message: Any, places: list[Message], rng: random.Random) -> None:
    """Put a copy of another message of this kind here."""
    alike = [other for other in places if other.DESCRIPTOR is message.DESCRIPTOR and other is not message]
    if alike:
        other = rng.choice(alike)
        # By bytes: one may hold the other. What is nested too deeply for protobuf is no mutation.
        _try(lambda: message.ParseFromString(other.SerializePartialToString()))


def _try(action: Callable[[], object]) -> None:
    """A value that the field cannot hold is no mutation."""
    try:
        action()
    except (ValueError, TypeError, DecodeError, EncodeError):
        return


def _scalar(field: Any, now: Any, rng: random.Random) -> Any:
    drawn: Callable[[Any, random.Random], Any] = _SCALARS.get(field.cpp_type, _integer)
    return drawn(now, rng)


def _integer(now: Any, rng: random.Random) -> int:
    near = now + rng.choice([-1, 1]) if isinstance(now, int) and rng.random() < 0.5 else None
    return rng.choice(_NUMBERS) if near is None else near


def _text(now: Any, rng: random.Random) -> str | bytes:
    if isinstance(now, bytes):
        raw = bytearray(now)
        for _ in range(rng.randint(0, 3) if raw else 0):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        return bytes(raw[: rng.randint(0, len(raw))] if rng.random() < 0.3 else raw)
    return rng.choice(_TEXTS)


def _float(now: Any, rng: random.Random) -> float:
    return rng.choice(_FLOATS)


_SCALARS: Final[Mapping[int, Callable[[Any, random.Random], Any]]] = {
    FieldDescriptor.CPPTYPE_STRING: _text,
    FieldDescriptor.CPPTYPE_FLOAT: _float,
    FieldDescriptor.CPPTYPE_DOUBLE: _float,
}
