"""Architectures with random weights, written as real exporters write them: what channel removal has to get through.

Widths, depths, and sizes of images are reduced where the originals are heavy, which each docstring says; how channels
hang together is not. The first axis of every input and output is open (`batch`).

    model = ZOO["resnet18"]()
    outputs = session.run(None, feeds(model, seed=0, batch=2))
"""

from collections.abc import Callable, Mapping
from typing import Final

import onnx

from benchmarks.channels.zoo.audio import conformer, wavenet
from benchmarks.channels.zoo.cnn_dense import (
    dcgan,
    deeplab,
    super_resolution,
    super_resolution_reshape,
    unet,
    unet_resize,
)
from benchmarks.channels.zoo.cnn_detection import yolo_v5, yolo_v8, yolo_v8_slice
from benchmarks.channels.zoo.cnn_mobile import (
    efficientnet_b0,
    mobilenet_v2,
    mobilenet_v3_small,
    mobilenet_v3_small_fused,
    shufflenet_v2,
)
from benchmarks.channels.zoo.cnn_plain import alexnet, group_norm, group_norm_fused, mlp20, prelu_net, vgg_like
from benchmarks.channels.zoo.cnn_residual import convnext, convnext_fused, resnet18, resnext
from benchmarks.channels.zoo.cnn_shared import retina_net, two_towers
from benchmarks.channels.zoo.cnn_tensorflow import keras_separable
from benchmarks.channels.zoo.feeds import feeds
from benchmarks.channels.zoo.quantised import qdq_cnn
from benchmarks.channels.zoo.recurrent import bilstm, crnn, gru, lstm, rnn
from benchmarks.channels.zoo.structures import constant_nodes, einsum_attention, if_body, several_outputs
from benchmarks.channels.zoo.transformers_text import bert, gpt2, llama
from benchmarks.channels.zoo.transformers_vision import mixer, swin, vit, vit_split

__all__ = ["ZOO", "feeds"]

_BUILDERS: Final = (
    *(mobilenet_v2, mobilenet_v3_small, mobilenet_v3_small_fused, efficientnet_b0, shufflenet_v2, keras_separable),
    *(resnet18, resnext, convnext, convnext_fused),
    *(vit, vit_split, swin, mixer, bert, gpt2, llama, einsum_attention, conformer, wavenet),
    *(unet, unet_resize, deeplab, dcgan, super_resolution, super_resolution_reshape),
    *(yolo_v5, yolo_v8, yolo_v8_slice, retina_net),
    *(vgg_like, mlp20, alexnet, prelu_net, group_norm, group_norm_fused),
    *(lstm, gru, bilstm, crnn, rnn),
    *(qdq_cnn, constant_nodes, if_body, several_outputs, two_towers),
)

ZOO: Final[Mapping[str, Callable[[], onnx.ModelProto]]] = {builder.__name__: builder for builder in _BUILDERS}
"""What builds each model, by name; the same bytes every time."""
