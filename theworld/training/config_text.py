"""A config's text, parsed strictly: JSON by the house's reader, YAML by its safe loader within bounds.

In: the text of a file. Out: plain values, or a `ValueError` or `YAMLError` of what is wrong. YAML has ways to write a
little that becomes much (aliases of aliases, deep nesting), and tags whose readers raise whatever they meet: bounded
and refused before anything is built of them.
"""

from typing import Any

from theworld.checkpoints.bounded_files import MAX_DEPTH, parse_json
from theworld.checkpoints.error_text import shown_name

_MAX_VALUES = 10_000  # of a config, with every alias written out
_MAX_NUMBER_LENGTH = 100  # characters of what is no text: a number, a date


def parse_config(text: str, *, is_json: bool) -> Any:
    """Parse a config.

    Raises:
        ValueError, yaml.YAMLError: for what is not strict JSON, or YAML within bounds.
    """
    if is_json:
        return parse_json(text, max_values=_MAX_VALUES)
    import yaml

    return yaml.load(text, _loader())


def _loader() -> Any:
    """YAML's safe loader, which takes the last of two equal keys, made to refuse them, and what has no bound."""
    import yaml

    class Loader(yaml.SafeLoader):
        def __init__(self, stream: str) -> None:
            super().__init__(stream)
            self._depth = self._num_nodes = 0
            self._sizes: dict[int, int] = {}  # of each whole node, its values with every alias written out

        def compose_node(self, parent: Any, index: Any) -> Any:
            event = self.peek_event()
            where = f"line {event.start_mark.line + 1}"
            if getattr(event, "tag", None) is not None:
                raise ValueError(f"{where}: the tag {shown_name(event.tag)} is not read; write the value without one")
            self._depth += 1
            self._num_nodes += 1
            if self._depth > MAX_DEPTH:
                raise ValueError(f"{where}: nested deeper than {MAX_DEPTH} levels")
            node = super().compose_node(parent, index)
            self._depth -= 1
            if isinstance(event, yaml.AliasEvent):
                if id(node) not in self._sizes:
                    raise ValueError(f"{where}: the alias {shown_name(event.anchor)} stands within what it names")
            else:
                self._sizes[id(node)] = self._size_of(node)
            if max(self._num_nodes, self._sizes[id(node)]) > _MAX_VALUES:
                raise ValueError(f"{where}: more than {_MAX_VALUES:,} values")
            return node

        def _size_of(self, node: Any) -> int:
            if isinstance(node, yaml.ScalarNode):
                if not node.tag.endswith(":str") and len(node.value) > _MAX_NUMBER_LENGTH:
                    line = node.start_mark.line + 1
                    raise ValueError(f"line {line}: a number of more than {_MAX_NUMBER_LENGTH} characters")
                return 1
            pairs = isinstance(node, yaml.MappingNode)
            parts = [part for pair in node.value for part in pair] if pairs else node.value
            return 1 + sum(self._sizes[id(part)] for part in parts)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                    if key.value in seen:
                        raise ValueError(f"key {shown_name(key.value)} appears twice")
                    seen.add(key.value)
            return super().construct_mapping(node, deep)

    return Loader
