"""Models from what is stored of them, without running code that came with it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dlarch.discovery import declared_class, source_file
from dlarch.errors import CheckpointError, OptionError, UnknownNameError, UserError
from dlarch.factory import check_init_args
from dlarch.hub.stored import CONFIG_FILE, PROCESSOR_FILES, Stored, display_name, open_stored
from dlarch.processing import Processor
from dlarch.registry import find
from dlarch.spec import DataSpec, as_tuples, lacking_facts

logger = logging.getLogger(__name__)


class AutoModel:
    """Trained models of any class, from wherever they are."""

    @staticmethod
    def from_pretrained(where: str | Path, revision: str | None = None, **overrides: Any) -> Any:
        """Load a model, ready for use: in eval mode, on the CPU, with its processor.

        The global random state is left as it was.

        Args:
            where: a pretrained folder, a run folder (its best checkpoint, else its last), "best"
                or "last" (of the newest run), a checkpoint file, or an id on the Hugging Face Hub
                such as "user/model". What exists here wins over the Hub.
            revision: branch, tag or commit on the Hub.
            overrides: constructor arguments to use instead of the stored ones.

        Raises:
            CheckpointError: there is nothing at `where`, or it is damaged, foreign, unsafe or of a
                newer dlarch, or the Hub cannot be reached.
            OptionError: the model has no such argument.
        """
        stored = open_stored(where, revision)
        model_class = _class_of(stored)
        model = _construct(model_class, _arguments(model_class, stored, overrides), stored.path)
        _load_weights(model, stored)
        model.processor = stored.processor()
        model.provenance = stored.values["provenance"]
        return model.eval()


def load_processor_of(where: str | Path, revision: str | None = None) -> Processor | None:
    """The processor alone of what `AutoModel.from_pretrained` loads; raises as it does."""
    return open_stored(where, revision, PROCESSOR_FILES).processor()


def load_spec(where: str | Path, revision: str | None = None) -> DataSpec | None:
    """The facts of the data that a model was trained on; raises as `from_pretrained` does."""
    spec = open_stored(where, revision, (CONFIG_FILE,)).values.get("spec")
    try:
        return DataSpec.from_dict(spec) if spec is not None else None
    except TypeError as error:
        raise CheckpointError(f"The spec stored in {where} is damaged: {error}.") from error


def _class_of(stored: Stored) -> type[Any]:
    """The class of a model: by its registry name, else by its path."""
    name, class_path = stored.values.get("model"), stored.values["class"]
    loaded: Any = None
    try:
        loaded = find("model", name).load() if name is not None else None
    except UnknownNameError:
        logger.debug("'%s' is not registered here, %s is looked for", name, class_path)
    try:
        loaded = loaded or _import(class_path, stored.path)
    except (ImportError, LookupError, AttributeError, SyntaxError, ValueError) as error:
        raise CheckpointError(
            f"{stored.path} is a model of class {class_path}, which cannot be imported "
            f"({error}): install the package that it comes from."
        ) from error
    if not (isinstance(loaded, type) and issubclass(loaded, nn.Module)):
        raise CheckpointError(f"{stored.path}: {class_path} is not the class of a model.")
    return loaded


def _import(class_path: str, path: Path) -> Any:
    """The class `module:Class`; its module is imported only if its text declares such a class.

    A stranger chose the class path: it must run neither whatever module there is, nor one that
    lies beside the weights in `path`.
    """
    module, _, qualname = class_path.partition(":")
    if module not in sys.modules:
        declared_class(module, qualname, "register_model")
        folder = path if path.is_dir() else path.parent
        if source_file(module).resolve().is_relative_to(folder.resolve()):
            raise ImportError("code that lies beside the weights is not run")
        import_module(module)
    return attrgetter(qualname)(sys.modules[module])


def _arguments(
    model_class: type[Any], stored: Stored, overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """Constructor arguments: the stored ones, checked, and those given now."""
    try:
        check_init_args(model_class, stored.values["hparams"])
    except OptionError as error:
        raise CheckpointError(
            f"{stored.path} may come from another version of dlarch: {error}"
        ) from error
    check_init_args(model_class, overrides)
    arguments = {name: as_tuples(value) for name, value in stored.values["hparams"].items()}
    arguments |= overrides
    lacking = lacking_facts(getattr(model_class, "build", lambda: None), arguments)
    if lacking:
        raise CheckpointError(
            f"{stored.path} does not say {', '.join(lacking)}, without which the model has no "
            "layers: it was saved before it was built."
        )
    return arguments


def _construct(model_class: type[Any], arguments: dict[str, Any], path: Path) -> Any:
    try:
        with torch.random.fork_rng(devices=[]):
            return model_class(**arguments)
    except UserError:
        raise
    except Exception as error:  # whatever a constructor makes of wrong values
        raise CheckpointError(
            f"{path}: {model_class.__name__} cannot be made with its arguments ({error})."
        ) from error


def _load_weights(model: nn.Module, stored: Stored) -> None:
    """Copy all weights, each into its place; a tied weight may be stored under any of its names."""
    weights = stored.weights()
    make_room = getattr(model, "make_room", None)
    if make_room is not None:  # for tables whose size is learnt
        make_room(weights)
    places = model.state_dict(keep_vars=True)
    filled = {id(places[name]) for name in weights if name in places}
    lacking = [name for name, place in places.items() if id(place) not in filled]
    foreign = [name for name in weights if name not in places]
    other = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(place.shape)}"
        for name, place in places.items()
        if name in weights and weights[name].shape != place.shape
    ]
    if lacking or foreign or other or not places:
        sides = (("lack", lacking), ("have unknown", foreign), ("have", other))
        found = "; they ".join(f"{verb} {_some(names)}" for verb, names in sides if names)
        raise CheckpointError(
            f"The weights in {stored.path} do not fit {display_name(model)}: "
            f"they {found or 'are none'}."
        )
    model.load_state_dict(weights, strict=False)


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + rest
