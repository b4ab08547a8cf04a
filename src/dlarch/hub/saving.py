"""Pretrained folders and their upload: weights, processor and model card."""

from __future__ import annotations

import inspect
import json
import logging
import shutil
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from dlarch.compat.checkpoint_io import FORMAT
from dlarch.errors import MismatchError, OptionError, RunError
from dlarch.hub.remote import is_hub_id, upload
from dlarch.hub.stored import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, display_name
from dlarch.processing.base import PROCESSOR_FILE, read_json, write_json
from dlarch.registry import find
from dlarch.spec import FACT_NAMES

logger = logging.getLogger(__name__)

USES = {
    "translate": ("translation", 'model.translate(["..."])'),
    "classify": ("image-classification", 'model.classify(["image.png"])'),
}
"""Method of a task to the Hub's name of what it does and the example on the card."""

NUMBERS_EXAMPLE = """\
rows = model.processor.encode([[5.1, 3.5]])
model.processor.decode(model(rows.features))"""
"""Example on the card of a model that predicts numbers from the rows of a table."""

OWN_CARD = "library_name: dlarch"
"""Line of the front matter of cards that are dlarch's, and may be written anew."""


def save_pretrained(
    model: nn.Module,
    folder: str | Path,
    *,
    metrics: Mapping[str, float] | None = None,
    command: str | None = None,
    **card: Any,
) -> None:
    """Write a model, its processor and a model card into a folder.

    A new folder appears complete or not at all; one that is written again has no config.json,
    and so cannot be loaded, until all its other files are there.

    Args:
        model: with its layers built.
        folder: made if needed. A README.md there that is not dlarch's is kept.
        metrics: what the card shows, by tag; those of `model.provenance` when not given.
        command: what trains these weights again; likewise.
        card: entries of the card's front matter, such as `license` and `language`.

    Raises:
        MismatchError: the model has no layers yet.
        RunError: the folder cannot be written to, or holds another kind of model.
    """
    _save(model, Path(folder).resolve(), None, metrics, command, card)


def push_to_hub(
    model: nn.Module,
    repo_id: str,
    *,
    private: bool = False,
    commit_message: str | None = None,
    token: str | None = None,
    **card: Any,
) -> str:
    """Upload what `save_pretrained` writes to the Hugging Face Hub.

    Args:
        model: with its layers built.
        repo_id: such as "user/model"; made if needed.
        private: whether a new repository is private.
        commit_message: of the commit.
        token: of the Hub; the one of `hf auth login` or `$HF_TOKEN` when not given.
        card: what `save_pretrained` takes: `metrics`, `command`, front matter of the card.

    Returns:
        The address of the commit.

    Raises:
        CheckpointError: the Hub cannot be reached, or refuses.
        MismatchError: the model has no layers yet.
        OptionError: `repo_id` is no id.
    """
    if not is_hub_id(repo_id):
        raise OptionError(f"'{repo_id}' is no id on the Hub: write it as 'user/model'.")
    metrics, command = card.pop("metrics", None), card.pop("command", None)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch).resolve() / "model"
        _save(model, folder, repo_id, metrics, command, card)
        message = commit_message or f"Upload {display_name(model)}"
        return upload(folder, repo_id, private, message, token)


def _save(
    model: Any,
    folder: Path,
    repo_id: str | None,
    metrics: Mapping[str, float] | None,
    command: str | None,
    card: dict[str, Any],
) -> None:
    config = _config(model, metrics, command, card)
    if (folder / CONFIG_FILE).is_file() and "class" not in read_json(folder / CONFIG_FILE):
        raise RunError(f"{folder} holds a model that is not dlarch's: choose another folder.")
    scratch = folder.with_name(f".{folder.name}-{uuid4().hex[:8]}")
    try:
        scratch.mkdir(parents=True)
        save_file(_weights(model), scratch / WEIGHTS_FILE, metadata={"format": "pt"})
        if config["processor"] is not None:
            model.processor.save(scratch)
        write_json(scratch / CONFIG_FILE, config)
        # safetensors writes files that only their owner may read.
        shutil.copymode(scratch / CONFIG_FILE, scratch / WEIGHTS_FILE)
        text = _card(type(model), config, repo_id or folder.name)
        (scratch / CARD_FILE).write_text(text, encoding="utf-8", newline="\n")
        _publish(scratch, folder)
    except (OSError, SafetensorError) as error:
        raise RunError(f"Cannot write the pretrained folder {folder}: {error}.") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Copies on the CPU of all weights, tied ones once, under the first of their names.

    safetensors' own `save_model` refuses what cuDNN makes of recurrent layers: views of one buffer.
    """
    first_names: dict[int, str] = {}
    places = model.state_dict(keep_vars=True)
    for name, place in places.items():
        first_names.setdefault(id(place), name)
    return {
        name: places[name].detach().clone(memory_format=torch.contiguous_format).cpu()
        for name in first_names.values()
    }


def _publish(scratch: Path, folder: Path) -> None:
    """Move what was written to its place; config.json, without which nothing is loaded, last."""
    if not folder.exists():
        scratch.rename(folder)
        return
    for name in (CONFIG_FILE, PROCESSOR_FILE):
        (folder / name).unlink(missing_ok=True)
    files = [path for path in scratch.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: path.name == CONFIG_FILE):
        target = folder / path.relative_to(scratch)
        if path.name == CARD_FILE and _is_foreign(target):
            logger.warning("%s was written by hand and is kept.", target)
            continue
        target.parent.mkdir(exist_ok=True)
        path.replace(target)


def _is_foreign(card: Path) -> bool:
    return card.is_file() and OWN_CARD not in card.read_text(encoding="utf-8", errors="replace")


def _config(
    model: Any,
    metrics: Mapping[str, float] | None,
    command: str | None,
    card: dict[str, Any],
) -> dict[str, Any]:
    hparams = getattr(model, "hparams", None)
    if hparams is None or not model.state_dict():
        raise MismatchError(
            f"{display_name(model)} has no layers yet: fit it, or give it the facts of its data."
        )
    for name, value in hparams.items():
        try:
            json.dumps(value)
        except TypeError as error:
            raise MismatchError(
                f"The argument {name}={value!r} cannot be written as JSON."
            ) from error
    model_class = type(model)
    known = getattr(model, "provenance", None) or {}
    processor = getattr(model, "processor", None)
    facts = {name: hparams[name] for name in FACT_NAMES if hparams.get(name) is not None}
    return {
        "format": FORMAT,
        "model": vars(model_class).get("registry_name"),  # not a parent's
        "class": f"{model_class.__module__}:{model_class.__qualname__}",
        "hparams": dict(hparams),
        "spec": facts or None,
        "processor": processor.type if processor is not None else None,
        "provenance": {
            "metrics": _plain(metrics) if metrics is not None else known.get("metrics") or {},
            "command": command if command is not None else known.get("command"),
            "card": {**(known.get("card") or {}), **card},
        },
        "versions": {name: _version(name) for name in ("dlarch", "torch", "lightning")},
    }


def _plain(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Metrics as numbers of Python, also those that are still tensors."""
    return {tag: float(value) for tag, value in metrics.items()}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _card(model_class: type[Any], config: dict[str, Any], name: str) -> str:
    """The model card: YAML front matter for the Hub, then Markdown."""
    import yaml

    model, paper, provenance = config["model"], None, config["provenance"]
    summary = inspect.cleandoc(model_class.__doc__ or "").partition("\n")[0]
    if model is not None:
        entry = find("model", model)
        summary, paper = entry.summary, entry.paper
    method = next((method for method in USES if hasattr(model_class, method)), None)
    kind, example = USES[method] if method else ("", "")
    if config["processor"] == "table" and config["hparams"].get("num_classes") is None:
        method, kind, example = None, "tabular-regression", NUMBERS_EXAMPLE
    elif config["processor"] == "table":
        kind, example = "tabular-classification", "model.classify([[5.1, 3.5]])"
    tags = ["dlarch", *([model] if model else []), *([f"arxiv:{paper}"] if paper else [])]
    given = provenance["card"]
    front = {
        "library_name": "dlarch",
        **({"pipeline_tag": kind} if kind else {}),
        **given,
        "tags": list(dict.fromkeys([*tags, *given.get("tags", [])])),
    }
    link = f", [arXiv:{paper}](https://arxiv.org/abs/{paper})" if paper else ""
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False, allow_unicode=True).rstrip(),
        "---",
        f"# {name.rpartition('/')[2]}",
        "",
        f"{summary} (`{model or config['class']}`{link})",
        "",
        "```python",
        "from dlarch import AutoModel",
        "",
        f'model = AutoModel.from_pretrained("{name}")',
        *([example] if example else []),
        "```",
    ]
    if method:
        lines += ["", f'On the command line: `dlarch {method} {name} "..."`']
    if provenance["metrics"]:
        lines += ["", "## Results", "", "| metric | value |", "|---|---|"]
        lines += [f"| {tag} | {_number(value)} |" for tag, value in provenance["metrics"].items()]
    if provenance["command"]:
        lines += ["", "These weights are made again by", ""]
        lines += ["```sh", provenance["command"], "```"]
    versions = [f"{package} {number}" for package, number in config["versions"].items() if number]
    return "\n".join([*lines, "", f"Made with {', '.join(versions)}.", ""])


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
