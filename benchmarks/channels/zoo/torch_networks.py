"""Networks of torch, torchvision, and transformers with random weights, for `torch_exports` to export.

Those of torchvision have full width, or a smaller configuration where the usual one is large; images have 64 x 64
pixels. Those of transformers are small configurations. torch is imported when one is built.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from benchmarks.tools.base import library, version_of

_WORDS: Final = 300
_PIXELS: Final = 64


@dataclass(frozen=True, slots=True)
class Network:
    """A network, and what it reads.

    Attributes:
        build: makes the module; torch is there, and its generator seeded.
        input: name of the only input.
        shape: of one row: sizes, or names of open axes.
        words: integers below this are read, in the place of floats.
        package: beside torch and onnxscript.
        traced: whether the exporter that traces knows all its operators.
    """

    build: Callable[[], Any]
    input: str
    shape: tuple[int | str, ...]
    words: int | None = None
    package: str = "torch"
    traced: bool = True

    def missing(self) -> str | None:
        """Why it cannot be exported here, or None."""
        absent = [name for name in ("torch", "onnxscript", self.package) if version_of(name) is None]
        return f"{', '.join(dict.fromkeys(absent))} not installed" if absent else None


# ---- networks of torch


def _module(forward: Callable[..., Any], **layers: Any) -> Any:
    """An nn.Module that has these layers and computes forward(module, x)."""
    made: Any = type(forward.__name__, (library("torch").nn.Module,), {"forward": forward})()
    for name, layer in layers.items():
        setattr(made, name, layer)
    return made


def _encoder() -> Any:
    """nn.TransformerEncoder with nn.MultiheadAttention, on embedded words."""
    nn = library("torch").nn

    def forward(self: Any, ids: Any) -> Any:
        return self.head(self.encoder(self.embedding(ids)).mean(1))

    layer = nn.TransformerEncoderLayer(64, 4, 128, activation="gelu", batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return _module(forward, embedding=nn.Embedding(_WORDS, 64), encoder=encoder, head=nn.Linear(64, 10))


def _resnet() -> Any:
    """Three basic blocks; normalisation is folded by the exporter."""
    torch = library("torch")
    nn = torch.nn

    def normed(inputs: int, outputs: int, kernel: int, stride: int = 1) -> Any:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self: Any, x: Any) -> Any:
        return torch.relu(self.body(x) + self.shortcut(x))

    def block(inputs: int, outputs: int, stride: int) -> Any:
        body = nn.Sequential(normed(inputs, outputs, 3, stride), nn.ReLU(), normed(outputs, outputs, 3))
        plain = inputs == outputs and stride == 1
        return _module(forward, body=body, shortcut=nn.Identity() if plain else normed(inputs, outputs, 1, stride))

    blocks = block(16, 16, 1), block(16, 32, 2), block(32, 64, 2)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
    return nn.Sequential(normed(3, 16, 3), nn.ReLU(), *blocks, *head)


def _recurrent(kind: str) -> Any:
    """nn.LSTM or nn.GRU of two layers in both directions, on embedded words; a linear layer for each step."""
    nn = library("torch").nn

    def forward(self: Any, ids: Any) -> Any:
        return self.head(self.cell(self.embedding(ids))[0])

    cell = getattr(nn, kind)(24, 48, num_layers=2, bidirectional=True, batch_first=True)
    return _module(forward, embedding=nn.Embedding(_WORDS, 24), cell=cell, head=nn.Linear(96, 10))


def _sdpa() -> Any:
    """A block of a vision transformer with F.scaled_dot_product_attention, behind patches by Conv."""
    torch = library("torch")
    nn = torch.nn

    def attend(self: Any, x: Any) -> Any:
        qkv = self.qkv(x).reshape(x.shape[0], x.shape[1], 3, 4, 16).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(*qkv.unbind(0))
        return self.proj(y.transpose(1, 2).reshape(x.shape))

    def forward(self: Any, image: Any) -> Any:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = x + self.attention(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return self.head(x[:, 0])

    return _module(
        forward,
        patches=nn.Conv2d(3, 64, 8, 8),
        attention=_module(attend, qkv=nn.Linear(64, 192), proj=nn.Linear(64, 64)),
        mlp=nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64)),
        norm1=nn.LayerNorm(64),
        norm2=nn.LayerNorm(64),
        head=nn.Linear(64, 10),
    )


# ---- networks of torchvision and transformers, at full width if small, else by a configuration


def _vision(name: str) -> Any:
    return getattr(library("torchvision.models"), name)(weights=None, num_classes=50)


def _vision_transformer() -> Any:
    return library("torchvision.models").VisionTransformer(
        image_size=_PIXELS, patch_size=8, num_layers=2, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=50
    )


def _swin() -> Any:
    return library("torchvision.models").SwinTransformer(
        [4, 4], embed_dim=32, depths=[2, 2], num_heads=[2, 4], window_size=[4, 4], num_classes=50
    )


def _convnext() -> Any:
    convnext = library("torchvision.models.convnext")
    stages = [convnext.CNBlockConfig(24, 48, 2), convnext.CNBlockConfig(48, 96, 2), convnext.CNBlockConfig(96, None, 2)]
    return convnext.ConvNeXt(stages, layer_scale=0.5, num_classes=50)


def _language(kind: str, **options: Any) -> Any:
    """A small transformer of the library with its head; logits alone come out."""
    transformers = library("transformers")
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=_WORDS, initializer_range=0.1, use_cache=False, attn_implementation="eager", **options
    )
    task = "ForSequenceClassification" if kind == "Bert" else "LMHeadModel" if kind == "GPT2" else "ForCausalLM"

    def forward(self: Any, ids: Any) -> Any:
        return self.inner(ids).logits

    return _module(forward, inner=getattr(transformers, f"{kind}{task}")(config))


def _bert() -> Any:
    return _language(
        "Bert", hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, num_labels=3
    )


def _gpt2() -> Any:
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    return _language("GPT2", n_embd=64, n_layer=2, n_head=4, n_positions=64, **ends)


def _llama() -> Any:
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    return _language("Llama", **sizes, num_attention_heads=8, num_key_value_heads=2)


_TEXT: Final = ("input_ids", ("sequence",), _WORDS)
_IMAGE: Final = ("input", (3, _PIXELS, _PIXELS))

NETWORKS: Final[Mapping[str, Network]] = {
    "transformer_encoder": Network(_encoder, *_TEXT),
    "resnet": Network(_resnet, *_IMAGE),
    "bilstm": Network(partial(_recurrent, "LSTM"), *_TEXT),
    "bigru": Network(partial(_recurrent, "GRU"), *_TEXT),
    "sdpa_block": Network(_sdpa, *_IMAGE),
    **{
        name: Network(partial(_vision, name), *_IMAGE, package="torchvision")
        for name in ("resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "efficientnet_b0", "densenet121")
    },
    "vit": Network(_vision_transformer, *_IMAGE, package="torchvision"),
    "swin": Network(_swin, *_IMAGE, package="torchvision"),
    "convnext": Network(_convnext, *_IMAGE, package="torchvision"),
    "bert": Network(_bert, *_TEXT, package="transformers"),
    "gpt2": Network(_gpt2, *_TEXT, package="transformers", traced=False),
    "llama": Network(_llama, *_TEXT, package="transformers", traced=False),
}
"""What can be exported, by name."""
