"""No data become code: nothing in the sources evaluates, unpickles or hands a text to a shell."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for folder in ("daemon", "gpu", "examples", "tools") for path in (ROOT / folder).rglob("*.py"))
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "code", "runpy", "yaml"}
CALLS = {"eval", "exec", "compile", "__import__", "system", "popen"}


def findings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            yield from (f"line {node.lineno}: imports {name}" for name in names if name.split(".")[0] in MODULES)
        elif isinstance(node, ast.Call):
            yield from _calls(node)


def _calls(node: ast.Call) -> Iterator[str]:
    name, of = (node.func.attr, ast.unparse(node.func.value)) if isinstance(node.func, ast.Attribute) else (
        getattr(node.func, "id", ""), "")  # fmt: skip
    keywords = {word.arg: ast.unparse(word.value) for word in node.keywords}
    if name in CALLS and of not in {"re"}:
        yield f"line {node.lineno}: calls {name}"
    if name == "load" and of in {"np", "numpy"} and keywords.get("allow_pickle") != "False":
        yield f"line {node.lineno}: np.load without allow_pickle=False"
    if keywords.get("allow_pickle") == "True" or keywords.get("shell") == "True":
        yield f"line {node.lineno}: {name} with {keywords}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_data_become_code(path: Path) -> None:
    assert list(findings(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from pickle import loads", "eval(x)", "os.system(x)", "np.load(x)", "__import__(x)",
     "np.load(x, allow_pickle=True)", "subprocess.run(x, shell=True)"],
)  # fmt: skip
def test_what_is_looked_for_is_found(source: str) -> None:
    assert list(findings(ast.parse(source)))
