"""A hook of MkDocs that adds files of the repository to the site if a page links to them.

Links are written so that they work in the repository. On the site each linked file becomes a page, and the link is
rewritten to it.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from scripts.docs.names import linked

ROOT = Path(__file__).resolve().parents[2]
#: Text that contains no links: code blocks and inline code.
_CODE = r"^(?P<indent> *)(?P<fence>```+)[^`].*?^(?P=indent)(?P=fence)$|`[^`\n]+`"
_LINK = r"(?<=\]\()[^)\s]+(?=\))|(?<=src=\")[^\"]+|(?<=srcset=\")[^\"]+|(?<=href=\")[^\"]+"
_FOUND = re.compile(rf"{_CODE}|(?P<link>{_LINK})", re.MULTILINE | re.DOTALL)
_LEXERS = {".conf": "nginx", ".json": "json", ".py": "python", ".service": "ini", ".yaml": "yaml", ".yml": "yaml"}


def links(text: str) -> Iterator[str]:
    """Yield the targets of the links of a page that point into the repository or the page itself."""
    for match in _FOUND.finditer(text):
        if match["link"] and not re.match(r"[a-z]+:", match["link"]):
            yield match["link"]


def resolve(path: str, target: str) -> tuple[str, str]:
    """Return the path from the root and the anchor of a link in the page at `path`."""
    file, _, anchor = target.partition("#")
    return normpath(join(dirname(path), file)) if file else path, anchor


def slug(title: str) -> str:
    """Return the anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", title).lower()).strip().replace(" ", "-")


def place(path: str) -> str:
    """Return the path in the site of a page or file."""
    if (ROOT / path).is_dir():
        path += "/index.md"
    elif "/" not in path and path.endswith(".md"):
        return path.lower()
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"source/{path}" if path.endswith(".md") else f"source/{path}.md"


def content(path: str) -> str:
    """Return a page with the contents of a file or directory."""
    if path.endswith(".md"):
        return (ROOT / path).read_text()
    if (ROOT / path).is_dir():
        names = sorted(child.name for child in (ROOT / path).iterdir() if not child.name.startswith(("__", ".")))
        # Relative to the parent directory, like all links that are resolved.
        listed = "".join(f"- [{name}]({path.rpartition('/')[2]}/{name})\n" for name in names)
        return f"# {path}\n\n{listed}"
    text = (ROOT / path).read_text()
    return (
        f"---\nsearch: {{exclude: true}}\n---\n\n# {path}\n\n````{_LEXERS.get(Path(path).suffix, 'text')}\n{text}````\n"
    )


def rewritten(text: str, path: str, page: str) -> str:
    """Return the text of a file with links rewritten for a page of the site."""

    def moved(match: re.Match[str]) -> str:
        target = match["link"]
        if not target or target.startswith("#") or re.match(r"[a-z]+:", target):
            return match[0]
        file, anchor = resolve(path, target)
        return relpath(place(file), dirname(page) or ".") + (f"#{anchor}" if anchor else "")

    return _FOUND.sub(moved, text)


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the files that pages link to, and those that added files link to."""
    paths = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    paths += sorted(path.name for path in ROOT.glob("*.md") if path.name != "README.md")  # index.md is the first page
    for path in paths:  # the list grows during the loop
        text = content(path)
        if not files.get_file_from_path(place(path)):
            files.append(File.generated(config, place(path), content=rewritten(text, path, place(path))))
        found = (resolve(path, target)[0] for target in links(text))
        paths += [
            new
            for new in found
            if new not in paths and not files.get_file_from_path(place(new)) and (ROOT / new).exists()
        ]
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Point the links of a page to their places in the site, and link names of the library to the reference."""
    path = page.file.src_uri
    text = markdown if page.file.generated_by else rewritten(markdown, f"docs/{path}", path)
    return text if path == "changelog.md" else linked(text)  # it names what earlier releases had
