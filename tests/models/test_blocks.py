"""Backbones from a list of blocks: what they compute, their shapes and sizes, and how they refuse."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn
from torchvision.models.resnet import BasicBlock

from tellapart.core.preprocess import Preprocessing
from tellapart.deploy.bundle.read import Bundle
from tellapart.deploy.bundle.write import write_bundle
from tellapart.errors import ModelError
from tellapart.evaluation.calibration_summary import Certainty
from tellapart.models.architecture import Architecture
from tellapart.models.blocks import InceptionBlock, ResidualBlock, build_blocks, shapes
from tellapart.models.layer_groups import chain
from tellapart.models.network import Network
from tellapart.recipe.networks import (
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    Inception,
    Pool,
    Residual,
    read_blocks,
)
from tellapart.recipe.schema import Head

ALL_KINDS = [
    Conv(channels=8, kernel=5, stride=2, dropout=0.1),
    Inception(conv1=4, reduce3=3, conv3=5, reduce5=2, conv5=3, pooled=2),
    Pool(size=3, stride=2),
    Residual(channels=12, stride=2, activation="silu"),
    Residual(channels=12, n_convolutions=3, batch_norm=False),
    Pool(kind="average"),
    Dense(size=10, activation="hardswish"),
    Dropout(dropout=0.5),
    Dense(size=7),
]


def n_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def random_statistics(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)


# What they compute


def test_a_conv_block_is_convolution_batch_norm_activation_dropout():
    backbone = build_blocks([Conv(channels=4, kernel=5, stride=2, activation="gelu", dropout=0.3)], 9, 12)
    conv, norm, activation, dropout = backbone.conv1
    random_statistics(backbone.eval())
    x = torch.randn(2, 3, 9, 12)
    expected = F.conv2d(x, conv.weight, stride=2, padding=2)
    expected = F.batch_norm(expected, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    torch.testing.assert_close(backbone(x), F.gelu(expected).mean((2, 3)))
    assert (type(activation), dropout.p) == (nn.GELU, 0.3)


def test_an_inception_block_puts_its_branches_side_by_side():
    block = Inception(conv1=4, reduce3=3, conv3=5, reduce5=2, conv5=6, pooled=7, batch_norm=False)
    module = InceptionBlock(block, 8).eval()
    x = torch.randn(2, 8, 6, 5)

    def conv(x, layer):
        return F.relu(F.conv2d(x, layer.weight, layer.bias, padding=layer.weight.shape[-1] // 2))

    layers = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    assert [tuple(m.weight.shape[:3]) for m in layers] == [
        (4, 8, 1),
        (3, 8, 1),
        (5, 3, 3),
        (2, 8, 1),
        (6, 2, 5),
        (7, 8, 1),
    ]
    one, reduce3, three, reduce5, five, pooled = layers
    expected = [
        conv(x, one),
        conv(conv(x, reduce3), three),
        conv(conv(x, reduce5), five),
        conv(F.max_pool2d(x, 3, 1, 1), pooled),
    ]
    torch.testing.assert_close(module(x), torch.cat(expected, 1))


def test_inception_branches_of_no_channels_and_reductions_of_none_are_left_out():
    module = InceptionBlock(Inception(conv3=5, pooled=2, batch_norm=False), 8)
    assert list(module.branches) == ["conv3", "pooled"]
    assert n_parameters(module) == 8 * 5 * 9 + 5 + 8 * 2 + 2


@pytest.mark.parametrize(("inputs", "channels", "stride"), [(6, 8, 2), (8, 8, 1), (6, 8, 1), (8, 8, 2)])
def test_a_residual_block_is_that_of_resnet(inputs, channels, stride):
    changes = stride > 1 or inputs != channels
    down = nn.Sequential(nn.Conv2d(inputs, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
    theirs = BasicBlock(inputs, channels, stride, down if changes else None)
    random_statistics(theirs)
    ours = ResidualBlock(Residual(channels=channels, stride=stride), inputs)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    x = torch.randn(2, inputs, 7, 9)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_a_residual_block_may_have_any_number_of_convolutions():
    single = ResidualBlock(Residual(channels=4, n_convolutions=1, batch_norm=False), 4)
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(
        single(x), F.relu(F.conv2d(x, single.path[0].weight, single.path[0].bias, padding=1) + x)
    )
    three = ResidualBlock(Residual(channels=4, n_convolutions=3), 4)
    assert [type(m).__name__ for m in three.path] == ["Conv2d", "BatchNorm2d", "ReLU"] * 2 + ["Conv2d", "BatchNorm2d"]


@pytest.mark.parametrize(("kind", "function"), [("max", F.max_pool2d), ("average", F.avg_pool2d)])
def test_a_pool_takes_the_maximum_or_the_average(kind, function):
    backbone = build_blocks([Pool(kind=kind, size=3, stride=2), Pool(kind=kind)], 9, 9)
    x = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(backbone(x), function(function(x, 3, 2), 2, 2).mean((2, 3)))


def test_dense_and_dropout_stand_behind_the_global_average():
    backbone = build_blocks([Conv(channels=6), Dropout(dropout=0.4), Dense(size=5, activation="silu")], 8, 8).eval()
    assert list(dict(backbone.named_children())) == ["conv1", "average", "flatten", "dropout2", "dense3"]
    x = torch.randn(2, 3, 8, 8)
    features = backbone.conv1(x).mean((2, 3))
    torch.testing.assert_close(
        backbone(x), F.silu(F.linear(features, backbone.dense3[0].weight, backbone.dense3[0].bias))
    )
    assert backbone.dropout2.p == 0.4


# Shapes and sizes


@pytest.mark.parametrize(
    ("blocks", "count"),
    [
        ([Conv(channels=16)], 3 * 16 * 9 + 2 * 16),
        ([Conv(channels=16, kernel=5, batch_norm=False)], 3 * 16 * 25 + 16),
        ([Pool()], 0),
        # The first inception block of GoogLeNet ("3a"): 163,696 weights.
        (
            [
                Conv(channels=192, kernel=1, batch_norm=False),
                Inception(conv1=64, reduce3=96, conv3=128, reduce5=16, conv5=32, pooled=32, batch_norm=False),
            ],
            3 * 192 + 192 + 163_696,
        ),
        # The first block of ResNet-18's second stage: 230,144 weights.
        ([Conv(channels=64, kernel=1), Residual(channels=128, stride=2)], 3 * 64 + 128 + 230_144),
        ([Conv(channels=8, kernel=1), Dense(size=10), Dropout(dropout=0.1)], 3 * 8 + 16 + 8 * 10 + 10),
    ],
)
def test_parameters_are_as_many_as_by_hand(blocks, count):
    assert n_parameters(build_blocks(blocks, 32, 32)) == count


channels = st.integers(1, 4)
picture_blocks = st.one_of(
    st.builds(
        Conv,
        channels=channels,
        kernel=st.sampled_from([1, 3, 5]),
        stride=st.integers(1, 3),
        padding=st.one_of(st.none(), st.integers(0, 3)),
    ),
    st.just(BatchNorm()),
    st.builds(Inception, conv1=channels, conv3=st.integers(0, 3), conv5=st.integers(0, 3), pooled=st.integers(0, 3)),
    st.builds(Residual, channels=channels, n_convolutions=st.integers(1, 3), stride=st.integers(1, 3)),
    st.builds(
        Pool,
        kind=st.sampled_from(["max", "average"]),
        size=st.integers(1, 3),
        stride=st.one_of(st.none(), st.integers(1, 3)),
        dropout=st.sampled_from([0, 0.5]),
    ),
)
feature_blocks = st.one_of(st.builds(Dense, size=channels), st.just(Dropout(dropout=0.5)))


@given(
    blocks=st.tuples(
        st.lists(picture_blocks, min_size=1, max_size=4),
        st.sampled_from([[], [Flatten()]]),
        st.lists(feature_blocks, max_size=2),
    ).map(lambda parts: parts[0] + parts[1] + parts[2]),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
)
def test_shapes_are_those_that_come_or_the_block_is_named(blocks, height, width):
    try:
        told = shapes(blocks, height, width)
    except ModelError as error:
        number = int(re.match(r"block (\d+) \(\w+\): the picture is only", error.message)[1])
        larger = re.search(r"data\.size=(\d+)", error.hint)
        assert len(shapes(blocks[: number - 1], height, width) if number > 1 else []) == number - 1
        assert larger is None or shapes(blocks, int(larger[1]), int(larger[1]))
        return
    backbone, x, came = build_blocks(blocks, height, width).eval(), torch.zeros(1, 3, height, width), []
    for name, module in backbone.named_children():
        x = module(x)
        came += [(*x.shape[1:], 1, 1)[:3]] if name not in ("average", "flatten") else []
    assert came == told
    assert x.shape == (1, told[-1].channels)


def test_every_block_is_a_link_of_the_chain():
    backbone = build_blocks(ALL_KINDS, 40, 40)
    random_statistics(backbone)
    names = {name.split(".")[0] for name, _ in chain(backbone, torch.randn(2, 3, 40, 40))}
    assert names == set(dict(backbone.named_children()))


def test_the_same_seed_gives_the_same_weights():
    backbones = []
    for _ in range(2):
        torch.manual_seed(1)
        backbones.append(build_blocks(ALL_KINDS, 40, 40).state_dict())
    assert all(torch.equal(backbones[0][name], backbones[1][name]) for name in backbones[0])


# How they refuse


@pytest.mark.parametrize(
    ("blocks", "side", "where", "pixels", "window", "smallest"),
    [
        ([Pool(size=4), Pool(size=4), Conv(channels=4)], 15, "block 2 (pool)", "3×3", "4×4 pool", 32),
        ([Pool(), Pool(), Inception(conv1=4, conv5=4)], 8, "block 3 (inception)", "2×2", "5×5 kernel", 12),
        (
            [Conv(channels=4, stride=8), Residual(channels=4, stride=2)],
            16,
            "block 2 (residual)",
            "2×2",
            "3×3 kernel",
            17,
        ),
        ([Conv(channels=4, kernel=9)], 4, "block 1 (conv)", "4×4", "9×9 kernel", 5),
    ],
)
def test_a_block_that_does_not_fit_is_named_and_the_size_that_works_too(blocks, side, where, pixels, window, smallest):
    with pytest.raises(ModelError) as caught:
        build_blocks(blocks, side, side)
    assert caught.value.message == f"{where}: the picture is only {pixels} pixels here; a {window} does not fit."
    assert f"--set data.size={smallest})" in caught.value.hint
    assert f"model.blocks.{int(where[6]) - 1}," in caught.value.hint
    build_blocks(blocks, smallest, smallest)
    with pytest.raises(ModelError):
        build_blocks(blocks, smallest - 1, smallest - 1)


def test_every_weight_of_a_kernel_that_fits_meets_the_picture():
    """3×3 on 2×2 pixels is of use: each of its nine weights is."""
    build_blocks([Conv(channels=2)], 2, 2)
    x = torch.rand(1, 3, 2, 2) + 1
    weight = torch.ones(1, 3, 3, 3, requires_grad=True)
    F.conv2d(x, weight, padding=1).sum().backward()
    assert (weight.grad != 0).all()


def test_no_size_is_proposed_where_none_would_do():
    with pytest.raises(ModelError) as caught:
        build_blocks([Pool(size=64)] * 3, 128, 128)
    assert "data.size" not in caught.value.hint


def test_pictures_come_first_and_features_behind_them():
    with pytest.raises(ModelError, match=r"block 3 \(conv\): it stands behind block 2 \(dropout\)"):
        build_blocks([Conv(channels=4), Dropout(dropout=0.2), Conv(channels=4)], 32, 32)
    with pytest.raises(ModelError, match=r"block 1 \(dense\): there is no block before it"):
        build_blocks([Dense(size=4)], 32, 32)
    with pytest.raises(ModelError, match="no blocks"):
        build_blocks([], 32, 32)
    with pytest.raises(ModelError, match=r"block 3 \(flatten\): it stands behind block 2 \(flatten\)"):
        build_blocks([Conv(channels=4), Flatten(), Flatten()], 32, 32)
    with pytest.raises(ModelError, match=r"block 3 \(conv\): it stands behind block 2 \(flatten\)"):
        build_blocks([Conv(channels=4), Flatten(), Conv(channels=4)], 32, 32)


def test_a_flattened_picture_that_would_be_too_much_is_refused_before_anything_is_built():
    with pytest.raises(ModelError, match=r"block 3 \(dense\): 4,194,304 features × 8,192 are more"):
        build_blocks([Conv(channels=64), Flatten(), Dense(size=8192)], 256, 256)
    with pytest.raises(ModelError, match=r"block 2 \(flatten\): 1,073,741,824 features"):
        build_blocks([Conv(channels=64), Flatten()], 4096, 4096)


def test_flatten_makes_a_feature_of_every_value_and_dropout_may_stand_before_it():
    blocks = [Conv(channels=4, padding=0), Dropout(dropout=0.4), BatchNorm(), Flatten(), Dense(size=5)]
    backbone = build_blocks(blocks, 6, 8).eval()
    assert list(dict(backbone.named_children())) == ["conv1", "dropout2", "batch_norm3", "flatten4", "dense5"]
    x = torch.randn(2, 3, 6, 8)
    features = backbone.batch_norm3(backbone.conv1(x)).flatten(1)
    assert features.shape == (2, 4 * 4 * 6)
    torch.testing.assert_close(
        backbone(x), F.relu(F.linear(features, backbone.dense5[0].weight, backbone.dense5[0].bias))
    )


def test_before_a_flatten_block_dropout_may_be_of_the_picture_itself():
    network = build_blocks([Dropout(dropout=0.2), Conv(channels=4), Flatten()], 8, 8)
    assert isinstance(next(network.children()), torch.nn.Dropout)
    with pytest.raises(ModelError, match=r"block 2 \(flatten\): it stands behind block 1 \(dense\)"):
        build_blocks([Dense(size=4), Flatten()], 8, 8)


def test_a_network_of_linear_layers_alone_is_flatten_and_dense():
    assert n_parameters(build_blocks([Flatten(), Dense(size=255)], 10, 10)) == 300 * 255 + 255


@pytest.mark.parametrize("kind", ["max", "average"])
def test_padding_of_a_pool_does_not_count(kind):
    x = torch.rand(1, 3, 5, 5) - 2
    pooled = build_blocks([Pool(kind=kind, size=3, stride=2, padding=1), Flatten()], 5, 5)(x).view(3, 3, 3)
    corner = x[0, :, :2, :2].flatten(1)
    expected = corner.amax(1) if kind == "max" else corner.mean(1)
    torch.testing.assert_close(pooled[:, 0, 0], expected)
    with pytest.raises(ValidationError, match="at most half"):
        Pool(size=3, padding=2)


@pytest.mark.parametrize(
    ("wrong", "where", "message"),
    [
        ({"block": "conv", "chanels": 8, "channels": 8}, "chanels", "Extra inputs"),
        ({"block": "conv"}, "channels", "Field required"),
        ({"block": "conv", "channels": 8, "kernel": 4}, "kernel", "odd number"),
        ({"block": "conv", "channels": 8, "stride": "2"}, "stride", "valid integer"),
        ({"block": "inception"}, None, "conv1, conv3, conv5 or pooled"),
        ({"block": "inception", "conv1": 8, "reduce5": 8}, None, "reduce5 does nothing without conv5"),
        ({"block": "incepton", "conv1": 8}, None, "does not match any of the expected tags"),
        ({"block": "residual", "channels": 8, "n_convolutions": 0}, "n_convolutions", "greater than or equal to 1"),
        ({"block": "dropout", "dropout": 1.0}, "dropout", "less than 1"),
    ],
)
def test_what_is_written_wrong_is_found_with_the_number_of_its_block(wrong, where, message):
    with pytest.raises(ValidationError) as caught:
        read_blocks([{"block": "pool"}, wrong])
    (error,) = caught.value.errors()
    assert error["loc"][0] == 1
    assert where is None or error["loc"][-1] == where
    assert message in error["msg"]


def test_blocks_come_back_from_plain_values():
    assert read_blocks([block.model_dump() for block in ALL_KINDS]) == ALL_KINDS


# Export


def test_the_exported_model_answers_as_torch(tmp_path):
    torch.manual_seed(0)
    backbone = build_blocks(ALL_KINDS, 40, 36)
    random_statistics(backbone)
    options = {"blocks": [block.model_dump() for block in ALL_KINDS]}
    architecture = Architecture("own", "blocks", Head(), 3, Preprocessing(40, 36), options)
    network = Network(backbone, nn.Linear(7, 3), architecture, 7, "random initial weights").eval()
    pictures = np.random.default_rng(0).integers(0, 256, (3, 40, 36, 3), np.uint8)
    folder = tmp_path / "bundle"
    write_bundle(folder, network, ("a", "b", "c"), False, Certainty(), about={}, golden=pictures)
    with torch.inference_mode():
        expected = network(torch.from_numpy(pictures)).numpy()
    np.testing.assert_allclose(Bundle.load(folder).predict_pixels(pictures), expected, rtol=1e-4, atol=1e-4)
