"""Writing a recipe as TOML."""

from __future__ import annotations

from typing import Any


def as_toml(values: dict[str, Any], prefix: str = "") -> str:
    """TOML text of plain values: scalars first, then tables, then lists of tables."""
    lines: list[str] = []
    later: list[str] = []
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else key
        if isinstance(value, dict):
            later.append(f"\n[{name}]\n{as_toml(value, name)}")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            later += [f"\n[[{name}]]\n{as_toml(entry, name)}" for entry in value]
        else:
            lines.append(f"{key} = {_scalar(value)}\n")
    return "".join(lines) + "".join(later)


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = "".join(
            _ESCAPES.get(c, c) if (c >= " " and c != "\x7f") or c in _ESCAPES else f"\\u{ord(c):04x}" for c in value
        )
        return f'"{escaped}"'
    if isinstance(value, list):
        return "[" + ", ".join(map(_scalar, value)) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_scalar(inner)}" for key, inner in value.items()) + " }"
    return repr(value)


_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
