"""Pretrained models: folders of weights, processor and card, here and on the Hugging Face Hub.

A folder holds config.json (registry name, class, hparams, spec, where the weights come from),
model.safetensors, the files of the processor and README.md, the card. A checkpoint of a run holds
the same and more. Reading either runs no code that came with it.
"""

from dlarch.hub.imagenet import IMAGENET_NAMES, cached_weights, imagenet_network
from dlarch.hub.loading import AutoModel, load_processor_of, load_spec
from dlarch.hub.saving import push_to_hub, save_pretrained
from dlarch.hub.stored import RENAMED_ARGUMENTS, rename_arguments

__all__ = [
    "IMAGENET_NAMES",
    "RENAMED_ARGUMENTS",
    "AutoModel",
    "cached_weights",
    "imagenet_network",
    "load_processor_of",
    "load_spec",
    "push_to_hub",
    "rename_arguments",
    "save_pretrained",
]
