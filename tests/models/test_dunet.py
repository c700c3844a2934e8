import pytest
import torch
from torch import nn

from pellucid.errors import PellucidError
from pellucid.models.dunet import CONNECTION_NAMES, DUNet, DUNetConfig, TissueConnection, official_names

# The release's convolutions as "number:in>out/batch norm", transposed ones as "up number:in>out".
FULL = """1:{first}>64/64 2:64>64/64 3:64>16/80 4:80>16/96 4_1:96>16/112 5:112>64/64 6:64>64/64 7:64>32/96
8:96>32/128 9:128>32/160 10:160>128/128 11:128>128/128 up11:128>128 12:256>256/256 13:256>32/288 14:288>32/320
15:320>32/352 up15:352>128 16:256>256/256 17:256>32/288 18:288>32/320 19:320>32/352 20:352>256/256
21:256>32/288 22:288>32/320 23:320>32/352 up23:352>64 24:128>128/128 25:128>16/144 26:144>16/160 27:160>16/176
28:176>64/64 29:64>16/80 30:80>16/96 31:96>16/112 32:112>{last}/{last}"""
HALF = """1:1>32/32 2:32>32/32 3:32>8/40 4:40>8/48 4_1:48>8/56 5:56>32/32 6:32>32/32 7:32>16/48 8:48>16/64
9:64>16/80 10:80>64/64 11:64>64/64 up11:64>64 12:128>128/128 13:128>16/144 14:144>16/160 15:160>16/176
up15:176>64 16:128>128/128 17:128>16/144 18:144>16/160 19:160>16/176 20:176>128/128 21:128>16/144
22:144>16/160 23:160>16/176 up23:176>32 24:64>64/64 25:64>8/72 26:72>8/80 27:80>8/88 28:88>32/32 29:32>8/40
30:40>8/48 31:48>8/56 32:56>4/4"""
CONNECTION = "1_con:4>32/32 2_con:1>32/32"


def released(listing: str, suffix: str = "") -> dict[str, tuple[int, ...]]:
    """Names and shapes of the released state dict, from its compact form."""
    shapes: dict[str, tuple[int, ...]] = {}
    for word in listing.split():
        number, _, widths = word.partition(":")
        convolution, _, norm = widths.partition("/")
        channels, features = map(int, convolution.split(">"))
        if number.startswith("up"):
            name, shape = f"deconv{number[2:]}{suffix}", (channels, features, 4, 4, 4)
        else:
            name, shape = f"conv{number}{suffix}", (features, channels, 3, 3, 3)
            kinds = ("weight", "bias", "running_mean", "running_var")
            shapes |= {f"bn{number}{suffix}.{kind}": (int(norm),) for kind in kinds}
            shapes[f"bn{number}{suffix}.num_batches_tracked"] = ()
        shapes |= {f"{name}.weight": shape, f"{name}.bias": (features,)}
    return shapes


def translated(module: nn.Module, names: dict[str, str]) -> dict[str, tuple[int, ...]]:
    """Our state dict under the release's names."""
    found = {}
    for key, value in module.state_dict().items():
        owner, _, kind = key.rpartition(".")
        found[f"{names[owner]}.{kind}"] = tuple(value.shape)
    return found


def parameters(*modules: nn.Module) -> int:
    return sum(weights.numel() for module in modules for weights in module.parameters())


def test_the_two_stage_network_has_the_released_names_and_shapes():
    with torch.device("meta"):
        tissue = DUNet(DUNetConfig(final="relu"))
        connection = TissueConnection()
        clear = DUNet(DUNetConfig(in_channels=64, out_channels=1, final="relu"))
    expected = released(FULL.format(first=1, last=4)) | released(CONNECTION)
    expected |= released(FULL.format(first=64, last=1), "_recon")
    assert len(expected) == 488
    found = translated(tissue, official_names()) | translated(connection, CONNECTION_NAMES)
    assert found | translated(clear, official_names("_recon")) == expected
    assert parameters(tissue, connection, clear) == 32_929_311


def test_the_skull_stripper_has_the_released_names_and_shapes():
    with torch.device("meta"):
        net = DUNet(DUNetConfig(width=32, growth=8, final="softmax"))
    expected = released(HALF)
    assert len(expected) == 237
    assert translated(net, official_names()) == expected
    assert parameters(net) == 4_110_068


def test_each_released_name_is_used_once():
    names = list(official_names().values())
    assert len(names) == len(set(names))


@pytest.fixture(scope="module")
def small() -> DUNet:
    torch.manual_seed(1)
    net = DUNet(DUNetConfig(width=8, growth=3, dropout=0.0))
    batch = torch.rand(2, 1, 16, 24, 16)
    for _ in range(2):
        net(batch)  # so that the norms know other numbers than their initial ones
    return net.eval()


def released_graph(net: DUNet, x: torch.Tensor) -> torch.Tensor:
    """The released forward pass written out step by step, with the release's irregular concatenations."""
    modules = dict(net.named_modules())
    by_name = {theirs: modules[ours] for ours, theirs in official_names().items()}

    def conv(number, value):
        return by_name[f"conv{number}"](value)

    def act(number, value):
        return torch.relu(by_name[f"bn{number}"](value))

    def dense(value, entry, one, two, three):
        root = conv(entry, value)
        new = conv(one, act(entry, root))
        first = torch.cat([new, root] if entry == 6 else [root, new], 1)
        second = torch.cat([first, conv(two, act(one, first))], 1)
        if entry == 16:
            second = act(two, second)
            third = torch.cat([second, conv(three, second)], 1)
        else:
            third = torch.cat([second, conv(three, act(two, second))], 1)
        return act(three, third)

    def pool(value):
        return nn.functional.max_pool3d(value, 3, 2, 1)

    conv1c = conv(5, dense(act(1, conv(1, x)), 2, 3, 4, "4_1"))
    conv2b = conv(10, dense(pool(act(5, conv1c)), 6, 7, 8, 9))
    conv3a = conv(11, pool(act(10, conv2b)))
    up = by_name["deconv11"](pool(act(11, conv3a)))
    up = by_name["deconv15"](dense(torch.cat([conv3a, up], 1), 12, 13, 14, 15))
    up = dense(torch.cat([conv2b, up], 1), 16, 17, 18, 19)
    up = by_name["deconv23"](dense(up, 20, 21, 22, 23))
    up = dense(dense(torch.cat([conv1c, up], 1), 24, 25, 26, 27), 28, 29, 30, 31)
    return act(32, conv(32, up))


def test_the_graph_is_the_released_one(small, generator):
    batch = torch.rand(2, 1, 16, 24, 16, generator=generator)
    with torch.no_grad():
        torch.testing.assert_close(torch.relu(small(batch)), released_graph(small, batch))


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


@pytest.mark.parametrize("shape", [(16, 16, 16), (17, 19, 23), (8, 33, 16)])
def test_any_size_comes_back(small, shape):
    with torch.no_grad():
        assert small(torch.rand(1, 1, *shape)).shape == (1, 4, *shape)


def test_padding_repeats_the_edge_and_is_cropped(small, generator):
    batch = torch.rand(1, 1, 16, 20, 16, generator=generator)
    padded = torch.cat([batch, batch[..., -1:, :].expand(-1, -1, -1, 4, -1)], dim=3)
    with torch.no_grad():
        torch.testing.assert_close(small(batch), small(padded)[..., :20, :])


def test_the_final_activation_follows_the_config(small, generator):
    batch = torch.rand(1, 1, 16, 16, 16, generator=generator)
    answers = {}
    for final in ("none", "relu", "softmax"):
        net = DUNet(DUNetConfig(width=8, growth=3, final=final)).eval()
        net.load_state_dict(small.state_dict())
        with torch.no_grad():
            answers[final] = net(batch)
    assert answers["none"].min() < 0
    assert torch.equal(answers["relu"], answers["none"].relu())
    torch.testing.assert_close(answers["softmax"], answers["relu"].softmax(1))


def test_gradients_reach_every_weight():
    torch.manual_seed(2)
    net = DUNet(DUNetConfig(width=4, growth=2))
    net(torch.rand(2, 1, 16, 16, 16)).square().mean().backward()
    assert all(weights.grad is not None for weights in net.parameters())


def test_the_connection_joins_posteriors_and_image(generator):
    torch.manual_seed(3)
    connection = TissueConnection(features=6).eval()
    logits = torch.randn(2, 4, 5, 6, 7, generator=generator)
    image = torch.rand(2, 1, 5, 6, 7, generator=generator)
    with torch.no_grad():
        out = connection(logits, image)
        # Softmax does not know a constant added to all classes.
        torch.testing.assert_close(connection(logits + 3, image), out)
        assert torch.equal(connection(logits, image + 1)[:, :6], out[:, :6])
    assert out.shape == (2, 12, 5, 6, 7)
    assert out.min() >= 0


@pytest.mark.parametrize("change", [{"width": 0}, {"growth": 0}, {"out_channels": 0}, {"dropout": 1.0}])
def test_impossible_configs_are_refused(change):
    with pytest.raises(PellucidError, match=r"DUNetConfig\."):
        DUNetConfig(**change)
