"""How a document is read: bounded, strictly, and with one line that names the file and the field.

In: a path, or values and the type that they must have. Out: values of that type, or an `InputError`.
"""

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from theworld_validate.results import InputError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")


def document_at(path: Path, file_name: str) -> Path:
    """The file that is named, or the one of this name in the folder that is named.

    Nothing is raised: a path that no file can have is named when it is read.
    """
    try:
        return path / file_name if path.is_dir() else path
    except OSError:
        return path


def read_json_object(path: Path, *, max_bytes: int, max_values: int = 1_000_000) -> dict[str, Any]:
    """Read a JSON object from a regular file of at most `max_bytes`, with at most `max_values` in it.

    Raises:
        InputError: if there is no such file, or it is no such object.
    """
    from theworld.checkpoints import bounded_files

    try:
        return bounded_files.read_json_object(path, max_bytes=max_bytes, max_values=max_values)
    except ValueError as error:
        raise InputError(str(error)) from error


def read_toml(path: Path, *, max_bytes: int) -> dict[str, Any]:
    """Read a TOML file; as `read_json_object`."""
    from theworld.checkpoints import bounded_files

    try:
        return bounded_files.read_toml_object(path, max_bytes=max_bytes)
    except ValueError as error:
        raise InputError(str(error)) from error


def parse(adapter: "TypeAdapter[T]", values: Any, *, source: str) -> T:
    """Check values, as JSON gave them, against a type.

    Args:
        adapter: of the type; strict, so that nothing is converted.
        source: the file, for errors.

    Raises:
        InputError: with the first field that is wrong.
    """
    from pydantic import ValidationError

    from theworld.checkpoints.bounded_files import one_line

    try:
        return _validator(adapter).validate_json(json.dumps(values))  # in JSON's own mode a list may be a tuple
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = _name_field(values, first["loc"])
        raise InputError(one_line(f"{source}: field {field}: {first['msg'].lower()}; make it again")) from error


@cache
def _validator(adapter: "TypeAdapter[Any]") -> Any:
    """The adapter's validator, which ends each list and map at its first error: a million errors take gigabytes."""
    from pydantic_core import SchemaValidator, core_schema

    kinds = {"list": core_schema.ListSchema, "tuple": core_schema.TupleSchema, "dict": core_schema.DictSchema}

    def ends_early(schema: Any) -> Any:
        if isinstance(schema, (list, tuple)):
            return type(schema)(map(ends_early, schema))
        if not isinstance(schema, dict):
            return schema
        kind = kinds.get(schema.get("type", "")) if isinstance(schema.get("type"), str) else None
        more = {"fail_fast": True} if kind is not None and "fail_fast" in kind.__annotations__ else {}
        return {**{key: ends_early(value) for key, value in schema.items()}, **more}

    return SchemaValidator(ends_early(adapter.core_schema))


def _name_field(values: Any, path: tuple[int | str, ...]) -> str:
    """A field's path, without the names of types that pydantic puts where several are allowed."""
    names = []
    for part in path:
        if isinstance(values, dict) and part in values:
            names.append(str(part))
            values = values[part]
        elif isinstance(values, list) and isinstance(part, int) and part < len(values):
            names[-1:] = [f"{names[-1] if names else ''}[{part}]"]
            values = values[part]
        elif isinstance(values, dict) and part == path[-1]:  # one that is missing
            names.append(str(part))
    return ".".join(names) or "(the whole document)"
