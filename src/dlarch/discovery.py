"""What dlarch's own files and those of plugins register, read from their text.

Nothing is imported, so that listing takes a moment.
"""

import ast
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from inspect import cleandoc
from pathlib import Path
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Declaration:
    """A class statement and the arguments of its registering decorator.

    Attributes:
        module: that the statement stands in.
        qualname: name of the class.
        base: last part of the name of its first base class; empty when it has none.
        docstring: without its indentation; may be empty.
        name: registry name; None when there is no such decorator.
        paper: number on arXiv.
        aliases: other names.
        override: whether it may replace what has its name.
    """

    module: str
    qualname: str
    base: str
    docstring: str
    name: str | None = None
    paper: str | None = None
    aliases: tuple[str, ...] = ()
    override: bool = False


class Source(NamedTuple):
    """Something to read declarations from.

    Attributes:
        called: how a message names it.
        distribution: the package that brings it.
        read: reads them; raises what `decorated_classes` and `declared_class` raise.
    """

    called: str
    distribution: str | None
    read: Callable[[], list[Declaration]]


def sources(files: str, group: str, decorator: str) -> Iterator[Source]:
    """Files of dlarch itself, then the entry points of other packages.

    Args:
        files: pattern of the own files, below the package.
        group: of the entry points.
        decorator: name of the registering decorator.
    """
    package = Path(__file__).parent
    for path in sorted(package.glob(files)):
        module = ".".join(path.relative_to(package.parent).with_suffix("").parts)
        yield Source(str(path), "dlarch", partial(decorated_classes, path, module, decorator))
    for point in entry_points(group=group):
        distribution = point.dist.name if point.dist else None
        called = f"'{point.name}' of the package {distribution}"
        yield Source(called, distribution, partial(_read_plugin, point, decorator))


def _read_plugin(point: EntryPoint, decorator: str) -> list[Declaration]:
    declaration = declared_class(point.module, point.attr, decorator)
    if declaration.name not in (None, point.name):
        raise ValueError(f"its decorator calls it '{declaration.name}'")
    return [replace(declaration, name=point.name)]


def decorated_classes(path: Path, module: str, decorator: str) -> list[Declaration]:
    """The classes of a file that carry `@decorator(...)`.

    Raises:
        SyntaxError: the file is not Python.
        ValueError: an argument of the decorator is not a literal.
    """
    text = path.read_bytes()
    if f"@{decorator}".encode() not in text:  # parsing is what costs time
        return []
    head = _head(text.decode("utf-8"), decorator)
    try:
        tree = ast.parse(head, path)
    except SyntaxError:  # methods that a docstring shows are none
        tree = ast.parse(text, path)
    declared = [_declaration(node, module, decorator) for node in _classes(tree)]
    return [declaration for declaration in declared if declaration.name is not None]


def _head(text: str, decorator: str) -> str:
    """What a file says of its classes before their first methods.

    Lines that are left out are empty, so that those that stay have their numbers.
    """
    lines, kept = text.splitlines(), False
    for place, line in enumerate(lines):
        if line.startswith((f"@{decorator}", "class ")):
            kept = True
        elif line.startswith(("    def ", "    @", "    async def ")):
            kept = False
        if not kept:
            lines[place] = ""
    return "\n".join(lines)


def declared_class(module: str, qualname: str, decorator: str, hops: int = 8) -> Declaration:
    """The class that `module:qualname` leads to, through at most `hops` re-exporting imports.

    Raises:
        ImportError: there is no such module, or its source is not at hand.
        LookupError: the module neither defines nor imports such a class.
        SyntaxError: a file on the way is not Python.
        ValueError: an argument of the decorator is not a literal.
    """
    path = source_file(module)
    tree = ast.parse(path.read_bytes(), path)
    for node in _classes(tree):
        if node.name == qualname:
            return _declaration(node, module, decorator)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for statement in ast.walk(tree) if hops else ():
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if qualname == (alias.asname or alias.name):
                    relative = "." * statement.level + (statement.module or "")
                    origin = importlib.util.resolve_name(relative, package)
                    return declared_class(origin, alias.name, decorator, hops - 1)
    raise LookupError(f"the module '{module}' has no class '{qualname}'")


def source_file(module: str) -> Path:
    """The file of a module, found without importing it or the packages around it.

    Raises:
        ImportError: there is none.
    """
    name, *parts = module.split(".")
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a module in sys.modules without a spec
        spec = None
    paths = [Path(spec.origin)] if spec and spec.origin and not parts else []
    # What finders do below the top, but they would want the packages around it imported.
    for location in (spec and parts and spec.submodule_search_locations) or ():
        stem = Path(location, *parts)
        paths += [stem / "__init__.py", stem.with_name(f"{stem.name}.py")]
    for path in paths:
        if path.suffix == ".py" and path.is_file():
            return path
    raise ImportError(f"there is no module '{module}'")


def _classes(tree: ast.Module) -> Iterator[ast.ClassDef]:
    return (node for node in tree.body if isinstance(node, ast.ClassDef))


def _declaration(node: ast.ClassDef, module: str, decorator: str) -> Declaration:
    arguments: dict[str, Any] = {}
    for call in node.decorator_list:
        if isinstance(call, ast.Call) and _last_name(call.func) == decorator:
            literals = [("name", argument) for argument in call.args]
            literals += [(keyword.arg or "", keyword.value) for keyword in call.keywords]
            try:
                arguments = {name: ast.literal_eval(value) for name, value in literals}
            except ValueError:
                raise ValueError(
                    f"line {call.lineno} of '{module}': @{decorator} takes literals only"
                ) from None
    if "aliases" in arguments:
        arguments["aliases"] = tuple(arguments["aliases"])
    return Declaration(
        module=module,
        qualname=node.name,
        base=_last_name(node.bases[0]) if node.bases else "",
        docstring=cleandoc(ast.get_docstring(node) or ""),
        **arguments,
    )


def _last_name(expression: ast.expr) -> str:
    if isinstance(expression, ast.Subscript):  # Task[Batch]
        return _last_name(expression.value)
    if isinstance(expression, ast.Attribute):
        return expression.attr
    return expression.id if isinstance(expression, ast.Name) else ""
