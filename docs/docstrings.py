"""An extension of griffe: docstrings, written to be read in the source, become Markdown."""

from typing import Any

from griffe import Extension, Object

SECTIONS = ("Args:", "Attributes:", "Returns:", "Raises:")


class Docstrings(Extension):
    """Sets sections apart, fences doctests, and escapes what the source means literally: `[*n, 2, 2]`, `mean[k][c]`."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
    """The docstring as Markdown.

    >>> print(markdown("Matrices [*n, 2, 2]."))
    Matrices [\\*n, 2, 2].
    """
    lines: list[str] = []
    fenced, section = False, ""
    for line in text.splitlines():
        if not fenced and line.startswith(">>> "):
            lines.append("```pycon")
            fenced = True
        elif fenced and not line.strip():
            lines.append("```")
            fenced = False
        elif line in SECTIONS and lines and lines[-1]:
            lines.append("")
        section = line if line in SECTIONS else section
        if section == "Returns:":
            line = line.replace(": ", "&#58; ", 1)  # or what stands before the colon is taken for a type
        lines.append(line if fenced else line.replace("[*", "[\\*").replace("][", "]\\["))
    return "\n".join([*lines, "```"] if fenced else lines)
