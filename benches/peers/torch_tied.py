#!/usr/bin/env python3
"""Measures tied linear layers in PyTorch: the same products and the same training step, at the same
shapes, and the same JSON as the library's benchmark. Every result is checked before it is timed."""

import gc
import json
import statistics
import time
import warnings

from shared import SHAPES, Parser, digits, fail, in_words

LEARNING_RATE = 1e-3
EPSILON = 1e-8

# Runs in a row that have to be about as fast as the fastest before a candidate counts as warm, by
# which factor they may be slower, and runs after which it is measured all the same.
WARM_RUNS, ABOUT, MOST_WARM_UP_RUNS = 3, 1.5, 40
# Most repetitions between two waits.
MOST_TIMES = 4000
# Seconds that a round should at least take, seconds for all rounds, fewest and most rounds.
FULL, QUICK = (0.02, 1.0, 7, 15), (0.005, 0.1, 3, 5)

# The difference that rounding may make, relative to the largest value.
TOLERANCE = {"f32": 1e-5, "tf32": 2e-3}
# The share of the gradient that each contribution has to have at least in the check, lest a missing
# one go unseen.
CONTRIBUTION = 0.05
# What is checked with plain Python loops, which are slow.
SMALL = (7, 11, 5)


def options():
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--device",
        choices=["auto", "cpu", "cuda"],
        default="auto",
        help="auto is CUDA where PyTorch has it, otherwise the CPU",
    )
    parser.add_argument(
        "--adapter",
        metavar="NAME",
        help="the CUDA device of this name where there is one, otherwise the CPU",
    )
    parser.add_argument("--json", metavar="FILE", help="writes the results to this file, as JSON")
    return parser.parse_args()


def import_torch():
    # Nothing here needs NumPy.
    warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
    try:
        import torch
    except ImportError as error:
        fail(f"PyTorch cannot be imported ({error}): python3 -m pip install torch")
    return torch


class Machine:
    """The device that everything runs on."""

    def __init__(self, torch, choice, adapter):
        names = []
        if choice != "cpu" and torch.cuda.is_available():
            names = [torch.cuda.get_device_name(at) for at in range(torch.cuda.device_count())]
        if choice == "cuda" and not names:
            fail("a CUDA device is expected (--device cuda), but PyTorch finds none")
        if adapter is not None:
            at = names.index(adapter) if adapter in names else None
        else:
            at = 0 if names else None
        self.torch = torch
        self.is_cuda = at is not None
        self.device = torch.device("cuda", at) if self.is_cuda else torch.device("cpu")
        if self.is_cuda:
            self.adapter = names[at]
            self.driver = f"CUDA {torch.version.cuda or torch.version.hip}"
        else:
            threads = torch.get_num_threads()
            self.adapter = f"the CPU, {threads} thread{'s' if threads != 1 else ''}"
            self.driver = f"CPU kernels for {torch.backends.cpu.get_cpu_capability()}"

    def wait(self):
        if self.is_cuda:
            self.torch.cuda.synchronize(self.device)

    def set_tf32(self, on):
        self.torch.backends.cuda.matmul.allow_tf32 = on

    def random(self, rows, columns, bound, seed):
        """Uniform values in −bound … bound, the same for each seed."""
        generator = self.torch.Generator().manual_seed(seed)
        values = self.torch.rand(rows, columns, generator=generator)
        return ((2 * values - 1) * bound).to(self.device)


# The tied autoencoder, as one writes it with PyTorch. The weight is [hidden, inputs].


def encode(torch, x, weight, bias):
    return torch.relu(torch.nn.functional.linear(x, weight, bias))


def decode(torch, h, weight, bias):
    return torch.nn.functional.linear(h, weight.t(), bias)


class Training:
    """A layer in training. Adam is PyTorch's default one."""

    def __init__(self, machine, shape):
        torch, (batch, inputs, hidden) = machine.torch, shape
        self.torch = torch
        bound = (6 / (inputs + hidden)) ** 0.5

        def parameter(rows, columns, seed):
            return machine.random(rows, columns, bound, seed)

        self.input = machine.random(batch, inputs, 1, 1)
        self.weight = torch.nn.Parameter(parameter(hidden, inputs, 2))
        self.encoder_bias = torch.nn.Parameter(parameter(1, hidden, 3)[0])
        self.decoder_bias = torch.nn.Parameter(parameter(1, inputs, 4)[0])
        self.optimizer = torch.optim.Adam(self.parameters(), lr=LEARNING_RATE, eps=EPSILON)

    def parameters(self):
        return [self.weight, self.encoder_bias, self.decoder_bias]

    def forward(self):
        code = encode(self.torch, self.input, self.weight, self.encoder_bias)
        return decode(self.torch, code, self.weight, self.decoder_bias)

    def backward(self):
        self.optimizer.zero_grad()
        loss = self.torch.nn.functional.mse_loss(self.forward(), self.input)
        loss.backward()
        return loss.detach()

    def step(self):
        loss = self.backward()
        self.optimizer.step()
        return loss


# The check of the training step, in f64, loop by loop.


def reference_forward(x, weight, encoder_bias, decoder_bias):
    hidden, inputs = range(len(weight)), range(len(weight[0]))
    codes, outputs = [], []
    for row in x:
        code = [max(sum(row[i] * weight[h][i] for i in inputs) + encoder_bias[h], 0) for h in hidden]
        codes.append(code)
        outputs.append([sum(code[h] * weight[h][i] for h in hidden) + decoder_bias[i] for i in inputs])
    return codes, outputs


def reference_gradients(x, weight, encoder_bias, decoder_bias):
    """Loss, the decoder's and the encoder's part of the weight's gradient, and both biases'."""
    hidden, inputs = range(len(weight)), range(len(weight[0]))
    codes, outputs = reference_forward(x, weight, encoder_bias, decoder_bias)
    count = len(x) * len(inputs)
    loss = sum((y - x) ** 2 for ys, xs in zip(outputs, x) for y, x in zip(ys, xs)) / count
    of_decoder, of_encoder = ([[0.0 for _ in inputs] for _ in hidden] for _ in range(2))
    of_b, of_c = [0.0 for _ in hidden], [0.0 for _ in inputs]
    for row, code, output in zip(x, codes, outputs):
        delta = [2 * (output[i] - row[i]) / count for i in inputs]
        for i in inputs:
            of_c[i] += delta[i]
        for h in hidden:
            back = sum(delta[i] * weight[h][i] for i in inputs) if code[h] > 0 else 0.0
            of_b[h] += back
            for i in inputs:
                of_decoder[h][i] += code[h] * delta[i]
                of_encoder[h][i] += back * row[i]
    return loss, of_decoder, of_encoder, of_b, of_c


def flat(values):
    if isinstance(values, list):
        return [value for part in values for value in flat(part)]
    return [values]


def largest(values):
    return max(abs(value) for value in flat(values))


def expect(what, got, want, tolerance):
    """Fails where a value is not what the reference says."""
    got, want = flat(got.double().cpu().tolist()), flat(want)
    if len(got) != len(want):
        fail(f"{what} has {len(got)} values instead of {len(want)}")
    bound = tolerance * largest(want)
    for at, (have, wish) in enumerate(zip(got, want)):
        if not abs(have - wish) <= bound:
            fail(f"{what} is wrong at {at}: {have} instead of {wish}")


def check_step(machine):
    """Both contributions are in the weight's gradient, and the weight is one after an update too."""
    training, tolerance = Training(machine, SMALL), TOLERANCE["f32"]
    wide = lambda tensor: tensor.detach().double().cpu().tolist()
    x = wide(training.input)
    before = [wide(parameter) for parameter in training.parameters()]
    loss, of_decoder, of_encoder, of_b, of_c = reference_gradients(x, *before)
    whole = [[a + b for a, b in zip(*rows)] for rows in zip(of_decoder, of_encoder)]
    for name, part in [("decoder", of_decoder), ("encoder", of_encoder)]:
        if largest(part) < CONTRIBUTION * largest(whole):
            fail(f"the check of the gradient is blind: the {name}'s part is {largest(part)}")

    expect("loss", training.backward(), loss, tolerance)
    names = ["weight", "encoder bias", "decoder bias"]
    gradients = [whole, of_b, of_c]
    for name, parameter, want in zip(names, training.parameters(), gradients):
        expect(f"gradient of the {name}", parameter.grad, want, tolerance)

    training.step()
    for name, parameter, start, gradient in zip(names, training.parameters(), before, gradients):
        # Adam's first step, whose moments are the gradient's own.
        change = [LEARNING_RATE * g / (abs(g) + EPSILON) for g in flat(gradient)]
        want = [value - change for value, change in zip(flat(start), change)]
        expect(f"update of the {name}", parameter.detach(), want, tolerance)
    after = [wide(parameter) for parameter in training.parameters()]
    _, output = reference_forward(x, *after)
    expect("output with the updated weight", training.forward().detach(), output, tolerance)


# What is timed.


def candidates(machine, shape, element):
    """Each kernel's name, the floating-point operations of its products, and a function that runs it.

    H and dA, say, are not computed from X, but random too: to a product that makes no difference.
    """
    torch, (batch, inputs, hidden) = machine.torch, shape
    weight = machine.random(hidden, inputs, 1, 1)
    x, output_delta = machine.random(batch, inputs, 1, 2), machine.random(batch, inputs, 1, 4)
    h, code_delta = machine.random(batch, hidden, 1, 3), machine.random(batch, hidden, 1, 5)
    b, c = machine.random(1, hidden, 1, 6)[0], machine.random(1, inputs, 1, 7)[0]
    products = [
        ("encode", 1, lambda: x @ weight.t()),
        ("encode_bias_relu", 1, lambda: encode(torch, x, weight, b)),
        ("decode", 1, lambda: h @ weight),
        ("decode_bias", 1, lambda: decode(torch, h, weight, c)),
        ("backward", 2, lambda: h.t() @ output_delta + code_delta.t() @ x),
    ]
    wide = lambda tensor: tensor.double().cpu()
    encoded, decoded = wide(x) @ wide(weight).t(), wide(h) @ wide(weight)
    expected = {
        "encode": encoded,
        "encode_bias_relu": (encoded + wide(b)).clamp(min=0),
        "decode": decoded,
        "decode_bias": decoded + wide(c),
        "backward": wide(h).t() @ wide(output_delta) + wide(code_delta).t() @ wide(x),
    }
    for name, _, run in products:
        # A norm, since rounding errors of a sum grow with its terms, not with its value.
        error = (wide(run()) - expected[name]).norm() / expected[name].norm()
        if not error <= TOLERANCE[element]:
            fail(f"{name} at {shape} is wrong: its relative error is {error:.1e}")
    flops = 2 * batch * inputs * hidden
    measured = [(name, count * flops, run) for name, count, run in products]
    # Encode, decode, dA·Wᵀ, and the weight's gradient.
    return measured + [("step", 5 * flops, Training(machine, shape).step)]


class Series:
    """A candidate and its samples, seconds of one run."""

    def __init__(self, machine, name, flops, once, effort):
        self.machine, self.name, self.flops, self.once = machine, name, flops, once
        self.times, self.samples = 1, []
        round_seconds, candidate_seconds, fewest, most = effort
        wanted = round_seconds / self.settle()
        self.times = min(max(int(wanted) + 1, 1), MOST_TIMES)
        rounds = candidate_seconds / (self.settle() * self.times)
        self.rounds = min(max(int(rounds), fewest), most)

    def settle(self):
        """Runs until it gets no faster, and returns the seconds of the fastest run."""
        fastest, warm = float("inf"), 0
        for _ in range(MOST_WARM_UP_RUNS):
            seconds = self.run()
            warm = warm + 1 if fastest / ABOUT <= seconds <= fastest * ABOUT else 0
            fastest = min(fastest, seconds)
            if warm == WARM_RUNS:
                break
        return fastest

    def run(self):
        """One round: the seconds of one run in it."""
        once = self.once
        self.machine.wait()
        start = time.perf_counter()
        for _ in range(self.times):
            once()
        self.machine.wait()
        return (time.perf_counter() - start) / self.times


def measure(machine, shape, element, effort):
    """Times all candidates, in rounds in which they take turns; the results, and the warm-up."""
    start = time.perf_counter()
    all_series = [Series(machine, *each, effort) for each in candidates(machine, shape, element)]
    warm_up = time.perf_counter() - start
    for at in range(max(series.rounds for series in all_series)):
        for series in all_series:
            if at < series.rounds:
                series.samples.append(series.run())
    batch, inputs, hidden = shape
    results = []
    for series in all_series:
        seconds = statistics.median(series.samples)
        results.append(
            {
                "kernel": series.name,
                "batch": batch,
                "inputs": inputs,
                "hidden": hidden,
                "element": element,
                "seconds": seconds,
                "fastest": min(series.samples),
                "slowest": max(series.samples),
                "gflops": series.flops / seconds / 1e9,
            }
        )
    return results, warm_up


def print_results(results):
    for at, result in enumerate(results):
        shape = "x".join(str(result[name]) for name in ["batch", "inputs", "hidden"])
        times = [in_words(result[name]) for name in ["seconds", "fastest", "slowest"]]
        print(
            f"{shape if at == 0 else '':17}{result['kernel']:18}{result['element']:8}"
            + "".join(f"{time:>9}" for time in times)
            + f"{digits(result['gflops']):>9}"
        )


def main():
    chosen = options()
    if chosen.json:
        try:
            # Now, rather than after the measurements.
            open(chosen.json, "a").close()
        except OSError as error:
            fail(f"{chosen.json}: cannot be written: {error.strerror}")
    torch = import_torch()
    machine = Machine(torch, chosen.device, chosen.adapter)
    framework = f"PyTorch {torch.__version__}, eager"
    print(f"adapter:    {machine.adapter}")
    print(f"driver:     {machine.driver}")
    print(f"framework:  {framework}")
    machine.set_tf32(False)
    check_step(machine)
    print(f"checked:    at {'x'.join(map(str, SMALL))}, both contributions are in the tied weight's")
    print("            gradient, and the weight is one after Adam's update too")
    print()
    print("Shape: batch x inputs x hidden. Time: the median of one run, with the fastest and the")
    print("slowest round.")
    print()
    print(
        f"{'shape':17}{'kernel':18}{'element':8}"
        + "".join(f"{name:>9}" for name in ["time", "fastest", "slowest", "GFLOP/s"])
    )
    all_results, warm_up = [], 0.0
    # The garbage collector would only add pauses of its own.
    gc.disable()
    for text in chosen.shape or SHAPES:
        shape = tuple(int(size) for size in text.split("x"))
        for element in ["f32", "tf32"] if machine.is_cuda else ["f32"]:
            machine.set_tf32(element == "tf32")
            results, seconds = measure(machine, shape, element, QUICK if chosen.quick else FULL)
            print_results(results)
            all_results += results
            warm_up += seconds
    if chosen.json:
        document = {
            "adapter": machine.adapter,
            "driver": machine.driver,
            "framework": framework,
            "warm_up_seconds": warm_up,
            "results": all_results,
        }
        with open(chosen.json, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=2, ensure_ascii=False)
            file.write("\n")
        print(f"\nresults: {chosen.json}")


if __name__ == "__main__":
    main()
