"""Every promise of docs/reliability.md names a test, and every test it names is there."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
TEXT = (TESTS.parent / "docs" / "reliability.md").read_text(encoding="utf-8")


def functions():
    """Name → whether it is among the slow ones, for every test there is."""
    for file in TESTS.rglob("test_*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        marks = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Assign)]
        all_long = any(mark.startswith("pytestmark") and "mark.long" in mark for mark in marks)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield (
                    node.name,
                    all_long or any(ast.unparse(mark) == "pytest.mark.long" for mark in node.decorator_list),
                )


def test_the_tests_that_keep_promises_are_there_and_run_where_it_says():
    found = dict(functions())
    named = re.findall(r"`(test_\w+)`(\s\([^)]*slow\))?", TEXT)
    assert len(named) >= 15
    wrong = [name for name, slow in named if found.get(name) is not bool(slow)]
    assert wrong == []
    files = re.findall(r"`(test_\w+\.py)`", TEXT)
    assert {*files} <= {file.name for file in TESTS.rglob("test_*.py")}
