"""Recipes: commented YAML files that pair a model with data and a Trainer."""

import re
from dataclasses import dataclass
from pathlib import Path

from dlarch.errors import UnknownNameError, did_you_mean

_SUFFIXES = (".yaml", ".yml")
_of_recipes = re.compile(r"^(?:runs|grid|search)[ \t]*:", re.MULTILINE)


@dataclass(frozen=True)
class Recipe:
    """A recipe that dlarch ships.

    Attributes:
        name: path below the folder of recipes, without suffix, such as "sweeps/widths".
        path: of the file.
        model: the model it serves, as the file names it; empty when it names none.
        data: the data module likewise.
        summary: first line of comment, without the sign.
        varies: of a sweep, the recipe whose options it varies, or "recipes"; else empty.
    """

    name: str
    path: Path
    model: str
    data: str
    summary: str
    varies: str = ""


def recipes_folder() -> Path:
    """Where the shipped recipes are: in the installed package, or in the checkout around it."""
    package = Path(__file__).parent
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parents[1] / "recipes"


def list_recipes() -> list[Recipe]:
    """The shipped recipes for `dlarch fit`, sorted by name."""
    return [recipe for recipe in _shipped() if not recipe.varies]


def list_sweeps() -> list[Recipe]:
    """The shipped recipes for `dlarch sweep`, sorted by name."""
    return [recipe for recipe in _shipped() if recipe.varies]


def _shipped() -> list[Recipe]:
    folder = recipes_folder()
    paths = (path for path in folder.rglob("*") if path.suffix in _SUFFIXES)
    return sorted((_read(path, folder) for path in paths), key=lambda recipe: recipe.name)


def find_recipe(text: str) -> Path:
    """The file that `text` means: a path, with or without suffix, or the name of a shipped recipe.

    "recipes/NAME.yaml" means the shipped recipe too where there is no such file, so that a command
    of the documentation runs in any folder.

    Raises:
        UnknownNameError: there is none; the nearest names are in the message.
    """
    for candidate in (text, *(text + suffix for suffix in _SUFFIXES)):
        if Path(candidate).is_file():
            return Path(candidate)
    shipped = {recipe.name: recipe.path for recipe in _shipped()}
    name = Path(text).as_posix().removeprefix("recipes/")
    if name.endswith(_SUFFIXES):
        name = name.rpartition(".")[0]
    if name in shipped:
        return shipped[name]
    raise UnknownNameError(
        f"There is no recipe '{text}'.{did_you_mean(name, shipped)} "
        "`dlarch recipes` shows those that are shipped."
    )


def _read(path: Path, folder: Path) -> Recipe:
    text = path.read_text(encoding="utf-8")
    comment = re.search(r"^#+[ \t]*(\S.*)$", text, re.MULTILINE)
    return Recipe(
        name=path.relative_to(folder).with_suffix("").as_posix(),
        path=path,
        model=_named(text, "model"),
        data=_named(text, "data"),
        summary=comment[1].rstrip() if comment else "",
        varies=_named(text, "recipe") or ("recipes" if _of_recipes.search(text) else ""),
    )


def _named(text: str, key: str) -> str:
    """The class under a top-level key: bare, as `class_path` on a line below, or in braces."""
    # The block ends where the next line begins that is neither indented, blank nor a comment.
    block = re.search(rf"^{key}[ \t]*:(.*(?:\n(?:[ \t#].*)?)*)", text, re.MULTILINE)
    if block is None:
        return ""
    content = re.sub(r"(?:^|(?<=\s))#.*", "", block[1])
    # The first class_path is the model's own; its arguments may have others.
    found = re.search(r"""\bclass_path["']?\s*:\s*["']?([\w.-]+)""", content)
    bare = re.match(r"""[ \t]*["']?([\w.-]+)["']?[ \t]*$""", content, re.MULTILINE)
    if bare:
        return bare[1]
    return found[1] if found else ""
