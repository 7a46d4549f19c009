"""An extension of griffe, which reads the code for the reference: comments of attributes, and links."""

from pathlib import Path
from typing import Any

from griffe import Attribute, Class, Docstring, Extension, Function, Object

from scripts.docs.names import linked


class Comments(Extension):
    """Turns `#:` comments above attributes into docstrings, and names in docstrings into links."""

    def on_attribute_instance(self, *, attr: Attribute, **_: Any) -> None:
        """Use the comment above an attribute as its docstring."""
        if attr.docstring or not attr.lineno or not isinstance(attr.filepath, Path):
            return
        lines = attr.lines_collection[attr.filepath]
        first = attr.lineno - 1
        while first and lines[first - 1].strip().startswith("#:"):
            first -= 1
        if text := " ".join(line.strip().removeprefix("#:").strip() for line in lines[first : attr.lineno - 1]):
            attr.docstring = Docstring(f"{text[0].upper()}{text[1:]}.", lineno=first + 1, parent=attr)

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Turn names in a docstring into links."""
        if obj.docstring:
            obj.docstring.value = linked(obj.docstring.value)

    def on_class(self, *, cls: Class, **_: Any) -> None:
        """Show the types of attributes that `__init__` copies from parameters, and hide all values."""
        init = cls.members.get("__init__")
        for attr in cls.members.values():
            if (
                isinstance(attr, Attribute)
                and "instance-attribute" in attr.labels
                and "class-attribute" not in attr.labels
            ):
                if attr.annotation is None and isinstance(init, Function) and str(attr.value) in init.parameters:
                    attr.annotation = init.parameters[str(attr.value)].annotation
                attr.value = None
