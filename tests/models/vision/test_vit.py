import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer

from dlarch.errors import OptionError
from dlarch.models.vision.vit import ViT

SMALL = {"patch_size": 4, "hidden_size": 12, "layers": 2, "heads": 3}


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def with_torchvisions_weights(model, theirs):
    """Our model with the values of theirs, by what each is called."""
    names = {
        "conv_proj": "patches",
        "class_token": "positions.class_token",
        "encoder.pos_embedding": "positions.vectors",
        "encoder.layers.encoder_layer_": "blocks.",
        "encoder.ln": "norm",
        "ln_1": "norm1",
        "ln_2": "norm2",
        "self_attention.in_proj_": "attention.in_",
        "self_attention.out_proj": "attention.output",
        "mlp.3": "network.3",
        "mlp.0": "network.0",
        "heads.head": "output",
    }
    values = {}
    for name, value in theirs.state_dict().items():
        for old, new in names.items():
            name = name.replace(old, new)
        values[name] = value
    model.load_state_dict(values)
    return model


def test_equals_torchvisions_with_the_same_weights():
    torch.manual_seed(0)
    theirs = VisionTransformer(
        image_size=16, patch_size=4, num_layers=2, num_heads=3, hidden_dim=12, mlp_dim=48,
        num_classes=5,
    ).eval()  # fmt: skip
    for parameter in theirs.parameters():  # head and class token start at zero
        nn.init.normal_(parameter, std=0.3)
    ours = with_torchvisions_weights(ViT(image_shape=(3, 16, 16), num_classes=5, **SMALL), theirs)
    image = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(image), theirs(image), atol=1e-5, rtol=1e-5)


def test_the_base_network_has_the_published_number_of_parameters():
    """ViT-B/16 at 224 pixels, as torchvision counts it."""
    with torch.device("meta"):
        model = ViT(
            image_shape=(3, 224, 224), num_classes=1000, patch_size=16, hidden_size=768,
            layers=12, heads=12,
        )  # fmt: skip
    assert parameters(model) == 86_567_656


def test_without_a_class_token_there_are_its_parameters_less():
    with_token, mean = (
        ViT(image_shape=(1, 8, 8), num_classes=3, pool=pool, **SMALL)
        for pool in ("class_token", "mean")
    )
    assert parameters(with_token) - parameters(mean) == 12 + 12  # itself and its position


@pytest.mark.parametrize("pool", ["class_token", "mean"])
def test_only_positions_tell_where_a_patch_is(pool):
    """Patches in another order give other logits, but the same when positions are all alike."""
    torch.manual_seed(0)
    model = ViT(image_shape=(1, 8, 12), num_classes=3, pool=pool, **SMALL).eval()
    image = torch.randn(2, 1, 8, 12)
    moved = torch.cat([image[..., 8:], image[..., :8]], dim=3).roll(4, 2)
    with torch.no_grad():
        assert (model(image) - model(moved)).abs().max() > 1e-4
        model.positions.vectors.zero_()
        torch.testing.assert_close(model(image), model(moved), atol=1e-5, rtol=1e-5)


def test_attention_is_what_the_forward_pass_mixes():
    """One block with one head, whose values are passed on as they are."""
    torch.manual_seed(0)
    model = ViT(
        image_shape=(1, 8, 8), num_classes=3, patch_size=4, hidden_size=6, layers=1, heads=1
    ).eval()
    image = torch.randn(2, 1, 8, 8)
    block = model.blocks[0]
    with torch.no_grad():
        block.attention.in_parts()[2].copy_(torch.eye(6))
        block.attention.output.weight.copy_(torch.eye(6))
        nn.init.zeros_(block.network[3].weight)
        nn.init.zeros_(block.network[3].bias)
        nn.init.zeros_(block.attention.in_bias)
        embedded, weights = model.embed(image), model.attention(image)
        mixed = embedded + weights[:, 0, 0] @ block.norm1(embedded)
        wanted = model.output(model.norm(mixed)[:, 0])
        torch.testing.assert_close(model(image), wanted, atol=1e-5, rtol=1e-5)
    assert weights.shape == (2, 1, 1, 5, 5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 1, 1, 5))


def test_patches_that_do_not_fit_are_refused():
    with pytest.raises(OptionError, match="8 x 10 cannot be cut into patches of 4 x 4"):
        ViT(image_shape=(1, 8, 10), num_classes=2)
    with pytest.raises(OptionError, match="192 dimensions cannot be divided among 5 heads"):
        ViT(image_shape=(1, 8, 8), num_classes=2, heads=5)
