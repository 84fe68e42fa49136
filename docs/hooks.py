"""Hooks of mkdocs: files of the repository outside docs/ become part of the site, and links to them follow."""

import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md")
FIGURES = ("results/*/*.png", "benchmarks/*.png")
OUTSIDE = re.compile(r"\[([^\[\]]*)\]\(((?:\.\./)+)([^)#\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and figures, at the paths they have in the repository."""
    for path in (*(ROOT / page for page in PAGES), *(p for glob in FIGURES for p in sorted(ROOT.glob(glob)))):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links that lead out of docs/ lead to the added file; where there is none, their text is left.

    A page two levels deep may well link to `../other.md` inside docs/: that stays as it is.
    """
    if page.file.src_uri in PAGES:  # seen from the root of the repository
        markdown = re.sub(r"\]\(docs/([^)\s]+)\)", r"](\1)", markdown)
        return re.sub(r"\[([^\[\]]*)\]\(LICENSE\)", r"\1", markdown)
    folder = PurePosixPath(page.file.src_uri).parent
    depth = len(folder.parts)

    def inside(match: re.Match[str]) -> str:
        text, ups, target = match.groups()
        above = ups.count("../") - depth
        if above < 1:
            return match[0]
        if above == 1 and files.get_file_from_path(target) is not None:
            return f"[{text}]({'../' * depth}{target})"
        if not (ROOT / target).exists():
            raise FileNotFoundError(f"{page.file.src_uri} links to {ups}{target}, which does not exist.")
        return text

    return OUTSIDE.sub(inside, markdown)
