"""What the reference needs of the code beside its docstrings: an extension of griffe, which reads the code."""

from pathlib import Path
from typing import Any

from griffe import Attribute, Class, Docstring, Extension, Function, Object

from scripts.docs.names import linked


class Comments(Extension):
    """Makes docstrings of the `#:` comments above attributes, and links of the names in all docstrings."""

    def on_attribute_instance(self, *, attr: Attribute, **_: Any) -> None:
        """Read what stands above an attribute."""
        if attr.docstring or not attr.lineno or not isinstance(attr.filepath, Path):
            return
        lines = attr.lines_collection[attr.filepath]
        first = attr.lineno - 1
        while first and lines[first - 1].strip().startswith("#:"):
            first -= 1
        if text := " ".join(line.strip().removeprefix("#:").strip() for line in lines[first : attr.lineno - 1]):
            attr.docstring = Docstring(f"{text[0].upper()}{text[1:]}.", lineno=first + 1, parent=attr)

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Link what a docstring names."""
        if obj.docstring:
            obj.docstring.value = linked(obj.docstring.value)

    def on_class(self, *, cls: Class, **_: Any) -> None:
        """Say the type of what `__init__` keeps as it is, and not how it came there."""
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
