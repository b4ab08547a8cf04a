"""`import dlarch`: quick, and the same for type checkers as at run time."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import dlarch


def checked_names() -> dict[str, str]:
    """Name to module, as the TYPE_CHECKING block says it."""
    tree = ast.parse(Path(dlarch.__file__).read_text(encoding="utf-8"))
    (block,) = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    return {
        alias.name: statement.module
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }


def test_type_checkers_see_what_is_imported_lazily():
    assert checked_names() == dlarch._MODULES
    assert set(dlarch.__all__) == {*dlarch._MODULES, "__version__"}


@pytest.mark.parametrize("name", sorted(dlarch._MODULES))
def test_each_name_is_that_of_its_module(name):
    module = import_module(dlarch._MODULES[name])
    assert getattr(dlarch, name) is getattr(module, name)
    assert name in dir(dlarch)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'create_modle'"):
        dlarch.create_modle  # noqa: B018


def test_import_and_listing_bring_neither_torch_nor_models():
    code = (
        "import sys, dlarch; dlarch.list_models(); dlarch.DataSpec(); "
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'lightning', 'numpy') "
        "or m.startswith('dlarch.models')])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (answer.stdout.strip(), answer.stderr) == ("[]", "")
