"""The ways in which people tie weights in PyTorch.

    python tests/parity/constructions.py

runs each construction of the README's table "in PyTorch, here" and checks that the gradient of its one
weight is the sum of what both uses contribute, that the optimizer moves it once, and where the weight
stands in the state dict. It also runs three that look like a tie and are none. make.py writes a golden
file of each construction, and says what to install.
"""

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

BATCH, INPUTS, HIDDEN = 5, 7, 3


class Functional(nn.Module):
    """One parameter, used twice by functions."""

    def __init__(self, inputs, hidden):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(hidden, inputs))
        self.b = nn.Parameter(torch.empty(hidden))
        self.c = nn.Parameter(torch.empty(inputs))

    def encode(self, x):
        return torch.tanh(F.linear(x, self.weight, self.b))

    def forward(self, x):
        return F.linear(self.encode(x), self.weight.t(), self.c)

    def tied(self):
        return self.weight, self.b, self.c


class Mirror(nn.Module):
    """A decoder with a bias of its own, which looks the weight up in the encoder."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.bias = nn.Parameter(torch.empty(encoder.in_features))

    def forward(self, h):
        return F.linear(h, self.encoder.weight.t(), self.bias)


class WithMirror(nn.Module):
    """An encoder and its mirror."""

    def __init__(self, inputs, hidden):
        super().__init__()
        self.encoder = nn.Linear(inputs, hidden)
        self.decoder = Mirror(self.encoder)

    def encode(self, x):
        return torch.tanh(self.encoder(x))

    def forward(self, x):
        return self.decoder(self.encode(x))

    def tied(self):
        return self.encoder.weight, self.encoder.bias, self.decoder.bias


class TransposeOf(nn.Module):
    """A parametrization that ignores its own value and gives another layer's weight, transposed."""

    def __init__(self, other):
        super().__init__()
        self.other = other

    def forward(self, _):
        return self.other.weight.t()

    def right_inverse(self, weight):
        # What is kept as the layer's own parameter: nothing. Without this method it would be a weight
        # of full size that nothing uses.
        return weight.new_empty(0)


class Parametrized(nn.Module):
    """Two nn.Linear, of which the second takes its weight from the first."""

    def __init__(self, inputs, hidden):
        super().__init__()
        self.encoder = nn.Linear(inputs, hidden)
        self.decoder = nn.Linear(hidden, inputs)
        parametrize.register_parametrization(self.decoder, "weight", TransposeOf(self.encoder))

    def encode(self, x):
        return torch.tanh(self.encoder(x))

    def forward(self, x):
        return self.decoder(self.encode(x))

    def tied(self):
        return self.encoder.weight, self.encoder.bias, self.decoder.bias


class SharedByLinears(nn.Module):
    """mod1.weight = mod2.weight: both use it the same way round, so it must be square to fit a stack."""

    def __init__(self, width):
        super().__init__()
        self.mod1 = nn.Linear(width, width)
        self.mod2 = nn.Linear(width, width)
        self.mod1.weight = self.mod2.weight

    def encode(self, x):
        return torch.tanh(self.mod1(x))

    def forward(self, x):
        return self.mod2(self.encode(x))

    def tied(self):
        return self.mod1.weight, self.mod1.bias, self.mod2.bias


class SharedByEmbedding(nn.Module):
    """mod1.weight = mod2.weight for an embedding and the logits over its rows: the shapes are equal,
    though one use is the transpose of the other."""

    def __init__(self, rows, width):
        super().__init__()
        self.embedding = nn.Embedding(rows, width)
        self.logits = nn.Linear(width, rows)
        self.logits.weight = self.embedding.weight

    def encode(self, indices):
        return torch.tanh(self.embedding(indices))

    def forward(self, indices):
        return self.logits(self.encode(indices))

    def tied(self):
        return self.logits.weight, self.logits.bias


def apart(model, x, first, second):
    """What the model computes, with a weight for each of the two uses."""
    _, *biases = model.tied()
    if isinstance(model, SharedByEmbedding):
        return F.linear(torch.tanh(first[x]), second, biases[0])
    h = torch.tanh(F.linear(x, first, biases[0]))
    return F.linear(h, second if isinstance(model, SharedByLinears) else second.t(), biases[1])


def uniform(generator, *shape, bound=1.0):
    """Values that f32 holds exactly. Python promises the same sequence in every version."""
    count = 1
    for size in shape:
        count *= size
    values = [bound * (2.0 * generator.random() - 1.0) for _ in range(count)]
    return torch.tensor(values, dtype=torch.float32).double().reshape(shape)


def randomized(model, generator):
    """The model in f64, with values from the generator."""
    model = model.double()
    with torch.no_grad():
        for parameter in model.tied():
            parameter.copy_(uniform(generator, *parameter.shape))
    return model


def report(what, is_so):
    print(f"{'yes' if is_so else 'NO':>5}  {what}")
    if not is_so:
        raise SystemExit(1)


def near(a, b):
    return a.shape == b.shape and (a - b).abs().max().item() < 1e-12


def check(model, x, target):
    """That the model counts both uses of its weight in one gradient, and updates it once."""
    name, rate = type(model).__name__, 0.5
    weight = model.tied()[0]
    uses = [weight.detach().clone().requires_grad_() for _ in range(2)]
    F.mse_loss(apart(model, x, *uses), target).backward()
    both = uses[0].grad + uses[1].grad
    report(f"{name}: both uses contribute", all(use.grad.abs().max() > 1e-3 for use in uses))
    model.zero_grad()
    F.mse_loss(model(x), target).backward()
    report(f"{name}: the gradient is the sum of both", near(weight.grad, both))
    listed = [id(parameter) for parameter in model.parameters() if parameter.numel() > 0]
    once = sorted(listed) == sorted(id(parameter) for parameter in model.tied())
    report(f"{name}: parameters() lists each once", once)
    torch.optim.SGD(model.parameters(), rate).step()
    moved = uses[0].detach() - rate * both
    report(f"{name}: the optimizer moves it once", near(weight.detach(), moved))
    keys = [key for key, value in model.state_dict().items() if value.shape == weight.shape]
    print(f"       in the state dict as {', '.join(keys)}")


def check_lookalikes():
    """Three that look like a tie."""
    encoder, decoder = nn.Linear(INPUTS, HIDDEN), nn.Linear(HIDDEN, INPUTS)
    decoder.weight = encoder.weight
    try:
        decoder(torch.zeros(1, HIDDEN))
        refused = False
    except RuntimeError:
        refused = True
    report("decoder.weight = encoder.weight: accepted, but the forward pass fails", refused)

    generator, rate = random.Random(2), 0.125
    square = nn.Linear(HIDDEN, HIDDEN).double(), nn.Linear(HIDDEN, HIDDEN, bias=False).double()
    square[1].weight = square[0].weight
    h = uniform(generator, BATCH, HIDDEN)
    same_way = near(square[1](h), F.linear(h, square[0].weight))
    report("the same with a square weight: silently not transposed", same_way)

    encoder, decoder = encoder.double(), decoder.double()
    decoder.weight = nn.Parameter(encoder.weight.t())
    x = uniform(generator, BATCH, INPUTS)
    F.mse_loss(decoder(torch.tanh(encoder(x))), x).backward()
    halves = encoder.weight.grad, decoder.weight.grad.t()
    report("nn.Parameter(encoder.weight.t()): each has a part of the gradient", not near(*halves))
    before = encoder.weight.detach().clone()
    torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], rate).step()
    largest = (encoder.weight.detach() - before).abs().max().item()
    report("nn.Parameter(encoder.weight.t()): Adam moves one memory twice", largest > 1.9 * rate)
    copied = copy.deepcopy(nn.ModuleList([encoder, decoder]))
    split = copied[0].weight.data_ptr() != copied[1].weight.data_ptr()
    report("nn.Parameter(encoder.weight.t()): a copy of the model holds two weights", split)


def main():
    generator = random.Random(1)
    x, square = uniform(generator, BATCH, INPUTS), uniform(generator, BATCH, HIDDEN)
    for make in (Functional, WithMirror, Parametrized):
        check(randomized(make(INPUTS, HIDDEN), generator), x, x)
    check(randomized(SharedByLinears(HIDDEN), generator), square, square)
    rows = torch.tensor([4, 0, 6, 4, 2])
    check(randomized(SharedByEmbedding(INPUTS, HIDDEN), generator), rows, x)
    check_lookalikes()


if __name__ == "__main__":
    main()
