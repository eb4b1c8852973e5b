"""How the networks of this folder are trained: plainly, so that they are no easier to compress than published ones.

Adam at 1e-3 with a cosine decay to zero, batches of 128, cross-entropy, seed 0; no weight decay, dropout, augmentation
or sparsity. Scripts call `start` before they build a network, then `fit`. Needs torch (`pip install -e .[train]`).
"""

import time

import numpy as np
import torch
from torch import nn

BATCH = 128
LEARNING_RATE = 1e-3
SEED = 0


def start():
    """Seed everything that is random, and keep to one thread: sums that are split between threads round otherwise."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)


def fit(name, network, inputs, labels, epochs):
    """Train on arrays of inputs and of labels, and leave the network ready for inference."""
    inputs, labels = torch.from_numpy(inputs), torch.from_numpy(labels.astype(np.int64))
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    steps = epochs * -(-len(inputs) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    loss_of = nn.CrossEntropyLoss()
    started = time.monotonic()
    network.train()
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(inputs)).split(BATCH):
            optimizer.zero_grad()
            loss = loss_of(network(inputs[batch]), labels[batch])
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        seconds = time.monotonic() - started
        print(f"{name} epoch {epoch + 1}: loss {total / len(inputs):.5f}, {seconds:.0f} s", flush=True)
    network.eval()


def weights_of(network):
    """The tensors of a network by name, those that count batches left out."""
    state = network.state_dict().items()
    return {key: value.detach().numpy() for key, value in state if not key.endswith("num_batches_tracked")}


def train_each(names, train, required):
    """Train the named models; exit code 1 when one falls short of its required accuracy.

    `train` takes a name, saves the model, and gives its accuracy on the test data through ONNX Runtime.
    """
    short = False
    for name in names:
        reached = train(name)
        verdict = "as required" if reached >= required[name] else "FALLS SHORT"
        short |= reached < required[name]
        print(f"{name}: test accuracy {reached:.4f}, at least {required[name]} wanted: {verdict}", flush=True)
    return int(short)
