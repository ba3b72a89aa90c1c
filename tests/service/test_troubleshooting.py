"""docs/troubleshooting.md quotes only what the program really says; links of the pages lead somewhere."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def texts() -> list[str]:
    """Every constant text of the sources, docstrings left out, those between braces of f-strings apart."""
    found = [(ROOT / "Makefile").read_text()]
    for module in [*(ROOT / "daemon").rglob("*.py"), *(ROOT / "gpu").rglob("*.py")]:
        tree = ast.parse(module.read_text())
        said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in said)
        found += [node.value for node in constants if isinstance(node.value, str)]
    return found


def quoted() -> list[str]:
    return [line[2:] for line in PAGE.read_text().splitlines() if line.startswith("> ")]


def test_every_quoted_message_is_one_that_the_program_prints() -> None:
    said = texts()
    assert len(quoted()) > 30
    for message in quoted():
        parts = [part.strip() for part in message.split("...") if part.strip()]
        assert max(map(len, parts)) > 5, f"nothing but dots: {message}"
        assert all(any(part in text for text in said) for part in parts), message


def test_every_symptom_has_a_message() -> None:
    sections = PAGE.read_text().split("\n## ")[1:]
    assert [section.splitlines()[0] for section in sections if "\n> " not in section] == []


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def test_every_page_is_linked_from_the_first_one() -> None:
    readme = (ROOT / "README.md").read_text()
    pages = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs").glob("*.ipynb")]
    assert [page.name for page in pages if f"docs/{page.name}" not in readme] == []
