"""The direction of imports, and what may be imported where."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import partialsym

ROOT = Path(partialsym.__file__).parent
# A module may import from its own layer and from those before it.
LAYERS = [
    {"_utils", "config", "errors", "groups", "registry", "warp"},
    {"data", "signal"},
    {"densities", "kernels", "ops"},
    {"nn"},
    {"inference"},
    {"lifting", "models"},
    {"component_choice", "export", "regularization", "testing"},
    {"measure", "profiling"},
    {"figures", "runs"},
    {"training"},
    {"ask"},
    {"report"},
    {"reproduction"},
    {"cli", "__main__"},
]


def imported(file):
    """Top-level modules of partialsym that a file imports, wherever in it."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    types = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    unseen = {id(inner) for node in types for inner in ast.walk(node)}  # by the interpreter
    for node in (node for node in ast.walk(tree) if id(node) not in unseen):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("partialsym"):
            names = [node.module] if node.module != "partialsym" else [f"partialsym.{a.name}" for a in node.names]
            yield from (name.split(".")[1] for name in names if not name.endswith("__version__"))


def test_nothing_imports_upwards():
    level = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    for file in ROOT.rglob("*.py"):
        own = file.relative_to(ROOT).parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        for other in imported(file):
            assert level[other] <= level[own], f"{file.relative_to(ROOT)} imports partialsym.{other}"


def described():
    """Layer and path of every folder and module in the map of docs/architecture.md, in its order."""
    page = (ROOT.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| (\d+) \| `partialsym/([\w/.]+)` \| .+ \|$", page, re.MULTILINE)
    return [(int(layer), path) for layer, path in found]


def test_the_map_of_the_documentation_is_the_tree():
    paths = [path for _, path in described()]
    folders = {f"{file.parent.relative_to(ROOT)}/" for file in ROOT.glob("*/**/__init__.py")}
    modules = {file.name for file in ROOT.glob("*.py")} - {"__init__.py"}
    assert sorted(paths) == sorted(folders | modules)
    level = {name: i for i, layer in enumerate(LAYERS, 1) for name in layer}
    assert [level[path.split("/")[0].removesuffix(".py")] for path in paths] == [layer for layer, _ in described()]
    assert described() == sorted(described(), key=lambda row: row[0])


LOADED = [  # by what is done in one process after the other; torch takes seconds, so that the last two share one
    [("import partialsym", ["torch", "lightning", "jsonargparse"])],
    [("import partialsym.cli.main", ["torch", "lightning", "numpy"])],
    [
        (
            "import torch, partialsym as ps; ps.GResNet('SE2', width=2, kernel_size=3)(torch.zeros(1, 1, 12, 12))",
            ["partialsym.profiling", "lightning", "onnx"],
        ),
        (
            "import partialsym as ps, partialsym.data.reading; [getattr(ps, name) for name in dir(ps)]",
            [
                "lightning",
                "onnx",
                "torchmetrics",
                "jsonargparse",
                "matplotlib",
                "PIL",
                "pooch",
                "scipy",
                "sklearn",
                "tensorboard",
                "yaml",
            ],
        ),
    ],
]


@pytest.mark.parametrize("steps", LOADED, ids=lambda steps: steps[-1][0])
def test_what_an_import_loads(steps):
    code = "import sys"
    for done, absent in steps:
        code += f"\n{done}\nif found := ' '.join(m for m in {absent!r} if m in sys.modules): sys.exit(found)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_command_line_without_its_extra_says_what_to_install():
    code = """
import sys
sys.modules |= dict.fromkeys(("yaml", "jsonargparse", "lightning"))
from partialsym.cli.main import main
sys.exit(main(["fit", "--help"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "partialsym: the command line needs the extra `train`: pip install 'partialsym[train]'.\n"


def test_every_export_exists():
    for name in dir(partialsym):
        assert getattr(partialsym, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = partialsym.nothing
