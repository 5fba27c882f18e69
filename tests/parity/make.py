"""Writes the golden files of this folder with PyTorch. From the repository's root:

    python3 -m venv target/parity
    target/parity/bin/pip install torch
    target/parity/bin/python tests/parity/make.py

With `--index-url https://download.pytorch.org/whl/cpu` comes a PyTorch without CUDA, which is smaller.

There is one safetensors file a case, in golden/, with all that tests/parity.rs needs to take the same
steps and compare:

    metadata         the case in words: activations, biases, loss, optimizer, PyTorch's version, ...
    weight           W, [hidden, inputs]
    encoder_bias     b, [hidden]; decoder_bias: c, [inputs]; where the case has them
    input, target    [batch, inputs]
    code, output     H and Y before the first update
    loss             of each micro-batch, before the first update
    gradient.*       by the weight, the biases and the input, before the first update
    after.*          each parameter after each step of the optimizer, [steps, ...]
    velocity.*, first_moment.*, second_moment.*: what the optimizer holds in the end

Operands are numbers that f32 holds exactly. PyTorch computes in f64 and the results are rounded to f32
once, so that a file is within half a unit in the last place of what the formulas say; that PyTorch's own
f32 agrees is checked on the way. The same version of PyTorch writes the same bytes again.
"""

import json
import pathlib
import random
import struct

import torch
import torch.nn.functional as F

import constructions
from constructions import uniform

ACTIVATIONS = {
    "identity": lambda z: z,
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu-tanh": lambda z: F.gelu(z, approximate="tanh"),
    "gelu-erf": F.gelu,
    "silu": F.silu,
}

LOSSES = {
    "squared-error": F.mse_loss,
    "binary-cross-entropy": F.binary_cross_entropy_with_logits,
}

# The class and its arguments, the defaults apart. SGD has a dampening too, which the library has not.
OPTIMIZERS = {
    "sgd": ("SGD", dict(lr=0.0625)),
    "sgd-decay": ("SGD", dict(lr=0.0625, weight_decay=0.125)),
    "momentum": ("SGD", dict(lr=0.03125, momentum=0.875)),
    "momentum-decay": ("SGD", dict(lr=0.03125, momentum=0.875, weight_decay=0.125)),
    "nesterov": ("SGD", dict(lr=0.03125, momentum=0.875, nesterov=True)),
    "nesterov-decay": ("SGD", dict(lr=0.03125, momentum=0.875, nesterov=True, weight_decay=0.125)),
    "adam": ("Adam", dict(lr=0.01)),
    "adam-betas": ("Adam", dict(lr=0.01, betas=(0.75, 0.96), eps=0.001)),
    "adam-decay": ("Adam", dict(lr=0.01, weight_decay=0.125)),
    "adamw": ("AdamW", dict(lr=0.01)),
    "adamw-decay": ("AdamW", dict(lr=0.01, weight_decay=0.25)),
    "adamw-betas": ("AdamW", dict(lr=0.01, betas=(0.75, 0.96), eps=0.001)),
}

# Batch, hidden, inputs: a shape that nothing divides, and one that is all multiples of four.
ODD, ALIGNED = (5, 3, 7), (4, 4, 8)

STEPS = 3

DEFAULTS = dict(
    encoder_activation="tanh",
    decoder_activation="sigmoid",
    encoder_bias=True,
    decoder_bias=True,
    loss="squared-error",
    reduction="mean",
    detached="none",
    micro_batches="5",
    optimizer="none",
    construction="layer",
)

PARAMETERS = "weight", "encoder_bias", "decoder_bias"

# What the optimizers call their state, and what the files and the library call it.
STATE = dict(momentum_buffer="velocity", exp_avg="first_moment", exp_avg_sq="second_moment")

# The settings that are written down.
SETTINGS = "lr", "momentum", "dampening", "nesterov", "betas", "eps", "weight_decay"

SEED = 58


def cases():
    """The name and settings of every case; tests/parity.rs has the same list."""
    for name in ACTIVATIONS:
        sides = dict(encoder_activation=name, decoder_activation="identity")
        yield f"activation-{name}-encoder", sides
        sides = dict(encoder_activation="identity", decoder_activation=name)
        yield f"activation-{name}-decoder", sides
        sides = dict(encoder_activation=name, decoder_activation=name, micro_batches="4")
        yield f"activation-{name}-both", sides
    for loss in LOSSES:
        for reduction in ("mean", "sum"):
            case = dict(decoder_activation="identity", loss=loss, reduction=reduction)
            yield f"loss-{loss}-{reduction}", case
    for name, biases in dict(none=(0, 0), encoder=(1, 0), decoder=(0, 1), both=(1, 1)).items():
        encoder, decoder = map(bool, biases)
        yield f"bias-{name}", dict(encoder_bias=encoder, decoder_bias=decoder)
    for name in OPTIMIZERS:
        yield f"optimizer-{name}", dict(optimizer=name, reduction="sum")
    for side in ("none", "encoder", "decoder"):
        yield f"detach-{side}", dict(detached=side, optimizer="momentum", reduction="sum")
    for reduction in ("mean", "sum"):
        case = dict(micro_batches="2,2,1", optimizer="momentum", reduction=reduction)
        yield f"micro-batches-{reduction}", case
    for name in ("functional", "mirror", "parametrize", "shared-linears", "shared-embedding"):
        case = dict(construction=name, optimizer="momentum", reduction="sum")
        if name == "shared-embedding":
            # A table has no bias and is decoded with; the logits come from encoding.
            sides = dict(encoder_activation="identity", decoder_activation="tanh")
            case.update(sides, decoder_bias=False, loss="binary-cross-entropy")
        else:
            case.update(decoder_activation="identity")
        yield f"construction-{name}", case


class Layer(torch.nn.Module):
    """A tied layer with any activations and biases, either use of its weight detached or none."""

    def __init__(self, case, operands):
        super().__init__()
        self.case = case
        for name in PARAMETERS:
            value = operands.get(name)
            value = None if value is None else torch.nn.Parameter(value.clone())
            self.register_parameter(name, value)

    def weight_of(self, side):
        return self.weight.detach() if self.case["detached"] == side else self.weight

    def encode(self, x):
        activation = ACTIVATIONS[self.case["encoder_activation"]]
        return activation(F.linear(x, self.weight_of("encoder"), self.encoder_bias))

    def forward(self, x):
        activation = ACTIVATIONS[self.case["decoder_activation"]]
        weight = self.weight_of("decoder").t()
        return activation(F.linear(self.encode(x), weight, self.decoder_bias))

    def tied(self):
        return tuple(self.parameters())


def model_of(case, operands):
    """The model, with the operands for its parameters."""
    hidden, inputs = operands["weight"].shape
    match case["construction"]:
        case "layer":
            return Layer(case, operands)
        case "functional":
            model = constructions.Functional(inputs, hidden)
        case "mirror":
            model = constructions.WithMirror(inputs, hidden)
        case "parametrize":
            model = constructions.Parametrized(inputs, hidden)
        case "shared-linears":
            model = constructions.SharedByLinears(hidden)
        case "shared-embedding":
            model = constructions.SharedByEmbedding(hidden, inputs)
    model.to(operands["weight"].dtype)
    with torch.no_grad():
        for name, parameter in zip(names_of(operands), model.tied(), strict=True):
            parameter.copy_(operands[name])
    return model


def names_of(operands):
    """The names of the parameters, in the order of tied()."""
    return [name for name in PARAMETERS if name in operands]


def operands_of(case):
    """Weight, biases, input and target."""
    generator = random.Random(SEED)
    (batch, hidden, inputs) = ODD
    if case["construction"] == "shared-linears":
        inputs = hidden
    elif case["construction"] == "shared-embedding":
        hidden, inputs = inputs, hidden
    elif case["micro_batches"] == "4":
        (batch, hidden, inputs) = ALIGNED
    operands = dict(weight=uniform(generator, hidden, inputs, bound=0.75))
    for name, size in dict(encoder_bias=hidden, decoder_bias=inputs).items():
        values = uniform(generator, size)
        if case[name]:
            operands[name] = values
    if case["construction"] == "shared-embedding":
        # Which row of the table: one of a row's values is 1.
        rows = torch.tensor([generator.randrange(hidden) for _ in range(batch)])
        operands["input"] = F.one_hot(rows, hidden).double()
        operands["target"] = (0.5 + 0.5 * uniform(generator, batch, hidden)).float().double()
    else:
        operands["input"] = uniform(generator, batch, inputs)
        operands["target"] = (0.5 + 0.5 * uniform(generator, batch, inputs)).float().double()
    return operands


def run(case, operands):
    """All results of a case, in the operands' number format."""
    model, names = model_of(case, operands), names_of(operands)
    sizes = [int(size) for size in case["micro_batches"].split(",")]
    x = operands["input"].clone()
    by_index = case["construction"] == "shared-embedding"
    if not by_index:
        x.requires_grad_()

    def losses():
        """One of each micro-batch, whose gradients are added up."""
        for part, target in zip(x.split(sizes), operands["target"].split(sizes), strict=True):
            loss = LOSSES[case["loss"]]
            prediction = model(part.argmax(dim=1) if by_index else part)
            loss = loss(prediction, target, reduction=case["reduction"])
            loss.backward()
            yield loss.detach()

    rows = x.argmax(dim=1) if by_index else x
    results = dict(code=model.encode(rows), output=model(rows), loss=torch.stack([*losses()]))
    for name, parameter in zip(names, model.tied(), strict=True):
        results[f"gradient.{name}"] = parameter.grad.clone()
    if not by_index:
        results["gradient.input"] = x.grad.clone()
    if case["optimizer"] != "none":
        kind, settings = OPTIMIZERS[case["optimizer"]]
        # All that the model lists, as a user would.
        optimizer = getattr(torch.optim, kind)(model.parameters(), **settings)
        after = {name: [] for name in names}
        for _ in range(STEPS):
            optimizer.zero_grad()
            list(losses())
            optimizer.step()
            for name, parameter in zip(names, model.tied(), strict=True):
                after[name].append(parameter.detach().clone())
        for name, parameter in zip(names, model.tied(), strict=True):
            results[f"after.{name}"] = torch.stack(after[name])
            for key, value in optimizer.state[parameter].items():
                if key in STATE and value is not None:
                    results[f"{STATE[key]}.{name}"] = value
    return {name: value.detach() for name, value in results.items()}


def metadata_of(case):
    """The case in words, without what the optimizer leaves unsaid."""
    words = {key: str(value).lower() for key, value in case.items()}
    words["torch"] = torch.__version__.split("+")[0]
    if case["optimizer"] != "none":
        kind, settings = OPTIMIZERS[case["optimizer"]]
        groups = getattr(torch.optim, kind)([torch.zeros(1)], **settings).param_groups
        words["optimizer"] = kind.lower()
        words["steps"] = str(STEPS)
        settings = {key: groups[0][key] for key in SETTINGS if key in groups[0]}
        words.update((key, json.dumps(value)) for key, value in settings.items())
    return words


def write(path, tensors, metadata):
    """A safetensors file (https://huggingface.co/docs/safetensors) in f32, keys sorted: the package of
    that name writes the metadata in an order that changes from run to run."""
    header, data = dict(__metadata__=dict(sorted(metadata.items()))), b""
    for name, tensor in sorted(tensors.items()):
        values = tensor.float().flatten().tolist()
        bounds = [len(data), len(data) + 4 * len(values)]
        header[name] = dict(dtype="F32", shape=list(tensor.shape), data_offsets=bounds)
        data += struct.pack(f"<{len(values)}f", *values)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def expect_agreement(name, single, double):
    """That PyTorch in f32 says the same; a case in which rounding decides is no test."""
    for key, want in double.items():
        error = (single[key].double() - want).abs().max().item()
        largest = max(want.abs().max().item(), 0.1)
        if not error <= 1e-5 * largest:
            raise SystemExit(f"{name}: {key} in f32 differs by {error}")


def main():
    folder = pathlib.Path(__file__).parent / "golden"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.safetensors"):
        old.unlink()
    total = 0
    for name, differences in cases():
        case = DEFAULTS | differences
        operands = operands_of(case)
        results = run(case, operands)
        in_f32 = run(case, {key: value.float() for key, value in operands.items()})
        expect_agreement(name, in_f32, results)
        path = folder / f"{name}.safetensors"
        write(path, operands | results, metadata_of(case))
        total += path.stat().st_size
    print(f"{len(list(cases()))} files, {total} bytes")


if __name__ == "__main__":
    main()
