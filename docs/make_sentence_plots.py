"""Draw the pictures of the pages on sentences as vectors, from finished runs.

python docs/make_sentence_plots.py codes RUN     images/MODEL_codes.png: codes of the test texts
python docs/make_sentence_plots.py collapse FOLDER [RUN ...]
                                                 images/sentence_vae_collapse.png: divergence and
                                                 bound over training, of the runs of a sweep
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import yaml
from small_networks import BLUE, GREEN, IMAGES, INK, PALE, RED, grid, label, legend, save
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import dlarch
from dlarch.runs import Run

COLOURS = (INK, RED, BLUE, GREEN, PALE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("codes", "collapse"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="of the sweep's runs, in their order")
    options = parser.parse_args()
    if options.what == "codes":
        draw_codes(options.folder)
    else:
        draw_collapse(options.folder, options.names)


@torch.no_grad()
def draw_codes(folder: Path) -> None:
    """The first two principal components, coloured by the number of words."""
    asked = yaml.safe_load(Run(folder).config.read_text(encoding="utf-8"))["data"]
    model = dlarch.AutoModel.from_pretrained(folder).eval()
    options = asked["init_args"] | {"processor": model.processor}
    data = dlarch.create_data(asked["class_path"], **options)
    data.prepare_data()
    data.setup("test")
    tokens = [batch.tokens for batch in data.in_order("test")]
    codes = torch.cat([model.encode(part) for part in tokens])
    words = torch.cat([(part != 0).sum(1) - 2 for part in tokens])
    left, sizes, _ = torch.linalg.svd(codes - codes.mean(0), full_matrices=False)
    places, share = left[:, :2] * sizes[:2], sizes.square() / sizes.square().sum()
    figure, ((axes,),) = grid(1, 1, 5.2, 4.0)
    shown = axes.scatter(*places.T, c=words, s=9, cmap="viridis", linewidths=0)
    figure.colorbar(shown, ax=axes, label="tokens of the text")
    names = [f"component {i + 1} ({share[i]:.0%} of the variance)" for i in range(2)]
    label(axes, "", *names)
    save(figure, IMAGES / f"{model.registry_name}_codes.png")


def draw_collapse(folder: Path, names: list[str]) -> None:
    """A line for each run of a sweep: what the code tells, and the negative bound."""
    figure, (panels,) = grid(1, 2, 4.6, 3.2)
    runs = {  # a sweep has a folder for each setting
        path.relative_to(folder).parts[0]: path.parent for path in folder.rglob("metrics.json")
    }
    for colour, name in zip(COLOURS, names or runs, strict=False):
        run = runs[name]
        events = EventAccumulator(str(run / "logs")).Reload()
        for axes, tag in zip(panels, ("val/kl", "val/loss"), strict=True):
            points = [(event.step, event.value) for event in events.Scalars(tag)]
            axes.plot(*zip(*points, strict=True), color=colour, label=name.replace("_", " "))
    label(panels[0], "", "optimizer step", "KL, nats per sentence")
    label(panels[1], "", "optimizer step", "negative bound, nats per sentence")
    legend(panels[0])
    save(figure, IMAGES / "sentence_vae_collapse.png")


if __name__ == "__main__":
    main()
