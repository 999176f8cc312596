"""The colours of all pages and figures, on light and on dark: reports, the review, the classifier's page, files."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: Colour of each part of a page, named as in the style sheets (--page, --ink …). Text on `page` has a contrast of at
#: least 4.5 : 1, marks (`accent`, `accent-2`, `quiet-line`, `strong-line`, `hue-…`) one of at least 3 : 1.
LIGHT: Mapping[str, str] = MappingProxyType(
    {
        "page": "#fbfaf8", "card": "#ffffff", "ink": "#1b1d20", "soft": "#575b61",
        "line": "#e2dfd9", "strong-line": "#8a8d92", "well": "#f1efeb", "shade": "rgb(0 0 0 / 0.22)",
        "accent": "#1a5a96", "accent-2": "#5f8fbc", "accent-soft": "#dbe7f2", "on-accent": "#ffffff",
        "quiet-line": "#7d7a73", "doubt": "#9a4a08", "alarm": "#b3261e",
        "v0": "#eef3f8", "v1": "#d9e6f1", "v2": "#bcd3e8", "v3": "#93b9d9", "v4": "#3f77ae", "v5": "#215d99",
        "v6": "#0d3b6e", "v-dark": "#10243a", "v-light": "#ffffff",
        "hue-1": "#1a5a96", "hue-2": "#b4540a", "hue-3": "#217a4b", "hue-4": "#7d4a9e", "hue-5": "#b02a4c",
        "hue-6": "#5f6a1f",
    }
)  # fmt: skip
DARK: Mapping[str, str] = MappingProxyType(
    {
        "page": "#131517", "card": "#1b1e21", "ink": "#eceae6", "soft": "#a9abae",
        "line": "#303439", "strong-line": "#7b8087", "well": "#202428", "shade": "rgb(0 0 0 / 0.75)",
        "accent": "#84b9ec", "accent-2": "#5484b3", "accent-soft": "#22374c", "on-accent": "#0e1c2b",
        "quiet-line": "#8b8e92", "doubt": "#f0a35e", "alarm": "#f2857d",
        "v0": "#1d2a37", "v1": "#21374c", "v2": "#284a69", "v3": "#33618b", "v4": "#6da3d4", "v5": "#95c2ea",
        "v6": "#c5e0f8", "v-dark": "#f2f6fa", "v-light": "#0e1c2b",
        "hue-1": "#84b9ec", "hue-2": "#f0a35e", "hue-3": "#72cf9b", "hue-4": "#c9a2e8", "hue-5": "#f28aa5",
        "hue-6": "#c3cf78",
    }
)  # fmt: skip
#: Of the curves of several runs in one figure.
N_HUES = 6


def css_variables(colours: Mapping[str, str], scheme: str) -> str:
    """Declarations for a style sheet; `scheme` is "light" or "dark"."""
    return f"color-scheme: {scheme}; {' '.join(f'--{name}: {colour};' for name, colour in colours.items())}"


def css() -> str:
    """Rules for a page that follows the system's scheme; it is printed light."""
    light, dark = css_variables(LIGHT, "light"), css_variables(DARK, "dark")
    return f":root {{ {light} }}\n@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
