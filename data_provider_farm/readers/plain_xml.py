"""XML from outside: no document types, bounded nesting, errors that name the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from lffd.errors import DataError
from lffd.untrusted import read_file

MAX_DEPTH = 50


class PlainXml:
    """What takes the parser's events; refuses entities, which can grow without bound, and nesting without end.

    Put it before another target, or override `start` and `end` and call them. `file` is set by `parse_xml`.
    """

    file = Path()
    depth = 0

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        """Refuse a document type: only these declare entities."""
        raise DataError(f"{self.file}: declares a document type, which annotation files do not")

    def start(self, tag: str, attributes: dict[str, str], /) -> Any:
        """Take the start of an element."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise DataError(f"{self.file}: is nested too deeply for annotations")
        above: Any = super()
        return above.start(tag, attributes) if hasattr(above, "start") else None

    def end(self, tag: str, /) -> Any:
        """Take the end of an element."""
        self.depth -= 1
        above: Any = super()
        return above.end(tag) if hasattr(above, "end") else None


def parse_xml(file: Path, target: PlainXml, most: int) -> Any:
    """Feed an XML file of at most so many bytes to a `PlainXml` target, and return what its `close` does.

    Raises:
        DataError: naming the file, when it is too large or is not such XML.
    """
    data = read_file(file, most=most)
    target.file = file
    parser: Any = ElementTree.XMLParser(target=target)
    try:
        parser.feed(data)
        return parser.close()
    except ElementTree.ParseError as error:
        raise DataError(f"{file}:{error.position[0]}: is not XML: {error}") from error
    except DataError:
        raise
    except (LookupError, ValueError) as error:  # an encoding that Python does not have
        raise DataError(f"{file}: {error}") from None
