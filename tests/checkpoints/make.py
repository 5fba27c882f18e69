"""Makes the files of this folder, which tests/checkpoint.rs reads: state dicts as PyTorch programs
with tied weights write them.

    pip install torch safetensors
    python tests/checkpoints/make.py
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

FOLDER = Path(__file__).parent
INPUTS, HIDDEN = 5, 3

# Exact in every type of the files, special values included where there are some.
WEIGHT = (torch.arange(HIDDEN * INPUTS, dtype=torch.float32) - 7).reshape(HIDDEN, INPUTS) / 8
ENCODER_BIAS = torch.tensor([0.5, -0.25, 1.0])
DECODER_BIAS = torch.tensor([1.0, -2.0, 0.125, 3.0, -0.0])
SPECIAL = {
    torch.float16: [65504.0, 2.0**-24, -0.0, float("inf"), float("nan")],
    torch.bfloat16: [2.0**127, 2.0**-133, -0.0, float("inf"), float("nan")],
}


class OneWeight(nn.Module):
    """F.linear with one module's weight and its transpose."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(INPUTS, HIDDEN)
        self.decoder_bias = nn.Parameter(DECODER_BIAS.clone())
        with torch.no_grad():
            self.encoder.weight.copy_(WEIGHT)
            self.encoder.bias.copy_(ENCODER_BIAS)

    def forward(self, x):
        return F.linear(torch.tanh(self.encoder(x)), self.encoder.weight.t(), self.decoder_bias)


class TwoModules(nn.Module):
    """A mirrored module whose weight is a view of the encoder's, transposed."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(INPUTS, HIDDEN)
        self.decoder = nn.Linear(HIDDEN, INPUTS)
        with torch.no_grad():
            self.encoder.weight.copy_(WEIGHT)
            self.encoder.bias.copy_(ENCODER_BIAS)
            self.decoder.bias.copy_(DECODER_BIAS)
        self.decoder.weight = nn.Parameter(self.encoder.weight.t())


class DecoderOwns(nn.Module):
    """The decoder's module holds the weight, and the encoder uses its transpose."""

    def __init__(self):
        super().__init__()
        self.decoder = nn.Linear(HIDDEN, INPUTS)
        self.encoder_bias = nn.Parameter(ENCODER_BIAS.clone())
        with torch.no_grad():
            self.decoder.weight.copy_(WEIGHT.t())
            self.decoder.bias.copy_(DECODER_BIAS)


def copies(state):
    return {key: value.detach().clone().contiguous() for key, value in state.items()}


def adam():
    """Three steps of Adam, its state, and the weights after three more."""
    module = OneWeight()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05, weight_decay=0.01)
    x = ((torch.arange(4 * INPUTS) * 7 % 11).reshape(4, INPUTS) - 5) / 4

    def three_steps():
        for _ in range(3):
            optimizer.zero_grad()
            F.mse_loss(module(x), x).backward()
            optimizer.step()

    three_steps()
    tensors = copies(module.state_dict())
    for key, parameter in module.named_parameters():
        for name, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{name}.{key}"] = value.clone()
    three_steps()
    tensors |= {f"after.{key}": value for key, value in copies(module.state_dict()).items()}
    save_file(tensors | {"x": x}, FOLDER / "adam.safetensors")


def main():
    save_file(OneWeight().state_dict(), FOLDER / "one_weight.safetensors")
    both = copies(TwoModules().state_dict())
    save_file(both, FOLDER / "both_equal.safetensors")
    for name, dtype in [("f16", torch.float16), ("bf16", torch.bfloat16)]:
        narrow = {key: value.to(dtype) for key, value in both.items()}
        narrow["decoder.bias"] = torch.tensor(SPECIAL[dtype]).to(dtype)
        save_file(narrow, FOLDER / f"both_{name}.safetensors")
    both["decoder.weight"][4, 1] += 1
    save_file(both, FOLDER / "both_different.safetensors")
    save_file(DecoderOwns().state_dict(), FOLDER / "decoder_owns.safetensors")
    whole = OneWeight().state_dict()
    whole["encoder.weight"] = (8 * whole["encoder.weight"]).to(torch.int64)
    save_file(whole, FOLDER / "whole_numbers.safetensors")
    adam()


main()
