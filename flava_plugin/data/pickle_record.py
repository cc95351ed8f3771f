"""A pickle read as a record, never run: no class is looked up, nothing is called or imported.

A pickle is a program for a small stack machine, and Python's own machine imports and calls what the
file names. This one knows a list of names; each stands for an inert value of ours, and a name not
on the list, or an instruction that these files do not need, ends the reading.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

MOST_STEPS = 2_000_000
"""Instructions of one pickle (DALL-E's encoder: a few thousand)."""

MARK = object()

CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"} | {
    "BINUNICODE", "SHORT_BINUNICODE", "SHORT_BINSTRING", "BINSTRING"
}  # fmt: skip
FRESH: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": list
}  # fmt: skip
SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
OTHERS = {"PROTO", "FRAME", "STOP", "MARK", "POP", "GLOBAL", "STACK_GLOBAL", "INST"} | {
    "REDUCE", "NEWOBJ", "BUILD", "TUPLE", "APPEND", "APPENDS", "SETITEM", "SETITEMS",
    "MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET", "BINPERSID",
}  # fmt: skip
KNOWN = OTHERS | LITERALS | set(CONSTANTS) | set(FRESH) | set(SHORT_TUPLES)
BY_BYTE = {code.code.encode("latin-1"): code for code in pickletools.opcodes}


@dataclass(frozen=True)
class Named:
    """A class or function that the file names; only its name is there.

    Attributes:
        name: Module and name, as in ``collections.OrderedDict``.
    """

    name: str


@dataclass(eq=False)
class Instance:
    """Stands for an object of an admitted class.

    Attributes:
        kind: Module and name of the class.
        state: What would be the object's ``__dict__``.
    """

    kind: str
    state: dict[str, Any]


@dataclass(frozen=True)
class Admitted:
    """What a pickle may name; everything else is refused.

    Attributes:
        classes: Classes whose objects become an ``Instance``.
        calls: By function's name, what of ours makes the inert value from its arguments.
        values: Names that are only passed around, such as kinds of storages.
        persistent: Makes the value of a persistent id; None refuses them.
    """

    classes: frozenset[str] = frozenset()
    calls: Mapping[str, Callable[[tuple[Any, ...]], Any]] | None = None
    values: frozenset[str] = frozenset()
    persistent: Callable[[Any], Any] | None = None


def read_pickle(stream: BinaryIO, admitted: Admitted, where: str) -> Any:
    """Read one pickle.

    Args:
        stream: Stands at its first byte; is left behind its last.
        admitted: What it may name.
        where: The file, for messages.

    Returns:
        Numbers, texts, tuples, lists, dicts, and what ``admitted`` makes.

    Raises:
        ValueError: The pickle names something else, needs another instruction, or is damaged.
    """
    try:
        return _Machine(stream, admitted).run()
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    except (IndexError, KeyError, TypeError, EOFError, OverflowError, AttributeError) as error:
        raise ValueError(f"{where}: damaged pickle ({type(error).__name__}: {error})") from error


class _Machine:
    def __init__(self, stream: BinaryIO, admitted: Admitted) -> None:
        self.stream = stream
        self.admitted = admitted
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(MOST_STEPS):
            byte = self.stream.read(1)
            code = BY_BYTE.get(byte)
            # Refused before its argument is read, for reading some arguments is costly in itself.
            if code is None or code.name not in KNOWN:
                what = code.name if code else f"{byte!r}"
                raise ValueError(f"refused: instruction {what} is none that such a file needs")
            argument = code.arg.reader(self.stream) if code.arg else None
            if code.name == "STOP":
                return self.stack.pop()
            self.step(code.name, argument)
        raise ValueError(f"refused: more than {MOST_STEPS} instructions")

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in LITERALS:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in FRESH:
            stack.append(FRESH[name]())
        elif name == "MARK":
            stack.append(MARK)
        elif name == "POP":
            stack.pop()
        elif name == "TUPLE":
            stack.append(tuple(self.since_mark()))
        elif name in SHORT_TUPLES:
            count = SHORT_TUPLES[name]
            stack[-count:] = [tuple(self.last(count))]
        elif name in ("APPEND", "APPENDS"):
            items = self.since_mark() if name == "APPENDS" else [stack.pop()]
            self.top(list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            self.set_items(self.since_mark() if name == "SETITEMS" else [*self.last(2, drop=True)])
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name not in ("PROTO", "FRAME"):
            self.make(name, argument)

    def make(self, name: str, argument: Any) -> None:
        """Do what Python's machine would import or call for."""
        stack, admitted = self.stack, self.admitted
        if name in ("GLOBAL", "INST"):
            stack.append(self.named(argument.replace(" ", ".", 1)))
            if name == "INST":
                raise ValueError("refused: instruction INST is none that such a file needs")
        elif name == "STACK_GLOBAL":
            module, attribute = self.last(2, drop=True)
            stack.append(self.named(f"{module}.{attribute}"))
        elif name == "REDUCE":
            called, arguments = self.last(2, drop=True)
            calls = admitted.calls or {}
            if not isinstance(called, Named) or called.name not in calls:
                raise ValueError(f"refused: it calls {_told(called)}")
            if type(arguments) is not tuple:
                raise ValueError(f"damaged pickle: {called.name} without a tuple of arguments")
            stack.append(calls[called.name](arguments))
        elif name == "NEWOBJ":
            kind, arguments = self.last(2, drop=True)
            if not isinstance(kind, Named) or kind.name not in admitted.classes or arguments != ():
                raise ValueError(f"refused: it makes an object of {_told(kind)}")
            stack.append(Instance(kind.name, {}))
        elif name == "BUILD":
            state = stack.pop()
            self.build(stack[-1], state)
        else:
            if admitted.persistent is None:
                raise ValueError("refused: a persistent id where none is due")
            stack.append(admitted.persistent(stack.pop()))

    def named(self, name: str) -> Named:
        admitted = self.admitted
        if name not in admitted.classes | admitted.values | set(admitted.calls or ()):
            raise ValueError(f"refused: it names {name[:99]!r}, which such a file does not need")
        return Named(name)

    def build(self, target: Any, state: Any) -> None:
        if type(state) is not dict:
            raise ValueError(f"refused: the state of {_told(target)} is {_told(state)}, no dict")
        if isinstance(target, Instance):
            target.state.update(state)
        elif type(target) is not dict:  # a dict's own attributes are versions: of no use here
            raise ValueError(f"refused: it gives a state to {_told(target)}")

    def set_items(self, items: list[Any]) -> None:
        target = self.top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, int):
                raise ValueError(f"refused: {_told(key)} as a key")
            target[key] = value

    def top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise ValueError(f"refused: {_told(self.stack[-1])} is filled like a {kind.__name__}")
        return self.stack[-1]

    def last(self, count: int, *, drop: bool = False) -> list[Any]:
        if len(self.stack) < count or any(item is MARK for item in self.stack[-count:]):
            raise ValueError("damaged pickle: too little on its stack")
        items = self.stack[-count:]
        if drop:
            del self.stack[-count:]
        return items

    def since_mark(self) -> list[Any]:
        for start in range(len(self.stack) - 1, -1, -1):
            if self.stack[start] is MARK:
                items = self.stack[start + 1 :]
                del self.stack[start:]
                return items
        raise ValueError("damaged pickle: a mark is missing")


def _told(value: Any) -> str:
    """Name a value without spelling out what the file put into it."""
    if isinstance(value, Named):
        return f"'{value.name}'"
    return f"an object of '{value.kind}'" if isinstance(value, Instance) else type(value).__name__
