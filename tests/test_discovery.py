"""Reading what files register, without importing them."""

from pathlib import Path

import pytest

from dlarch.discovery import Declaration, declared_class, decorated_classes, source_file


def test_names_of_a_file_are_read_without_importing_it(tmp_path):
    path = tmp_path / "a.py"
    path.write_text(
        "import not_there\n"
        "@register_model('a', aliases=['b'], paper='1', override=True)\n"
        "class A(tasks.Task[int]):\n    '''Does a.\n\n    Well.'''\n"
        "@register_data('c')\nclass C: pass\n"
        "class B(A): pass\n",
        encoding="utf-8",
    )
    assert decorated_classes(path, "p.a", "register_model") == [
        Declaration("p.a", "A", "Task", "Does a.\n\nWell.", "a", "1", ("b",), override=True)
    ]


def test_name_that_is_no_literal_is_refused_with_its_line(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("NAME = 'a'\n@register_model(NAME)\nclass A: pass\n")
    with pytest.raises(ValueError, match=r"line 2 of 'p\.a': @register_model takes literals only"):
        decorated_classes(path, "p.a", "register_model")


def test_class_is_followed_through_imports_that_may_be_lazy_or_renamed(monkeypatch, tmp_path):
    (tmp_path / "front" / "inner").mkdir(parents=True)
    (tmp_path / "front" / "__init__.py").write_text(
        "if TYPE_CHECKING:\n    from .inner.leaf import Leaf as Model\n"
    )
    (tmp_path / "front" / "inner" / "leaf.py").write_text("class Leaf(Task):\n    'Doc.'\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = declared_class("front", "Model", "register_model")
    assert found == Declaration("front.inner.leaf", "Leaf", "Task", "Doc.")
    with pytest.raises(LookupError, match="'front' has no class 'Leaf'"):
        declared_class("front", "Leaf", "register_model")


def test_imports_that_go_round_in_a_circle_end(monkeypatch, tmp_path):
    (tmp_path / "one_way.py").write_text("from other_way import Model\n")
    (tmp_path / "other_way.py").write_text("from one_way import Model\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(LookupError):
        declared_class("one_way", "Model", "register_model")


def test_source_of_a_module_is_found_without_importing_its_parents(monkeypatch, tmp_path):
    package = tmp_path / "outer" / "inner"
    package.mkdir(parents=True)
    (tmp_path / "outer" / "__init__.py").write_text("raise RuntimeError")
    (package / "leaf.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert source_file("outer.inner.leaf") == package / "leaf.py"
    assert source_file("outer") == Path(tmp_path / "outer" / "__init__.py")
    with pytest.raises(ImportError, match=r"no module 'outer.other'"):
        source_file("outer.other")
