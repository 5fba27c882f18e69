//! Parity with PyTorch: every file in `tests/parity/golden`, which `tests/parity/make.py` writes.
//!
//! A file is one case: what it is made of, in its metadata; operands; and PyTorch's results. The
//! library takes the same steps on every adapter, by the functions of [`Kernels`](tied_linear::Kernels),
//! by [`TiedLinear`]'s passes and by [`TrainingStep`], and each result is compared with PyTorch's within
//! what f32 can do to the formula at most (`tests/common/near.rs`).

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;

use common::near::{Learned, Near, ROUNDING};
use common::{Place, Rig, losses, on_every_adapter, once_per_adapter};
use safetensors::SafeTensors;
use tied_linear::kernels::{
    Backward, BiasGradient, Gradient, Linear, LossGradient, SgdSettings, Weight,
};
use tied_linear::{
    Accumulate, Activation, AdamSettings, Commands, Contributions, Decoder, ElementType,
    ElementTypes, Encoder, Gradients, LayerBackward, Loss, Matrix, Optimizer, OptimizerSettings,
    OptimizerState, Parameter, Parameters, Reduction, Tape, TiedLinear, TiedLinearOptions,
    TrainingOptions, TrainingStep,
};

/// How a case came about in PyTorch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Construction {
    /// By functions, any way that the case says.
    Layer,
    /// One parameter and `F.linear(x, w)`, `F.linear(h, w.t())`.
    Functional,
    /// A decoder that holds the encoder.
    Mirror,
    /// `torch.nn.utils.parametrize`.
    Parametrize,
    /// `mod1.weight = mod2.weight` for two `nn.Linear`.
    SharedLinears,
    /// `mod1.weight = mod2.weight` for an `nn.Embedding` and an `nn.Linear`.
    SharedEmbedding,
}

impl Construction {
    const ALL: [(&str, Self); 6] = [
        ("layer", Self::Layer),
        ("functional", Self::Functional),
        ("mirror", Self::Mirror),
        ("parametrize", Self::Parametrize),
        ("shared-linears", Self::SharedLinears),
        ("shared-embedding", Self::SharedEmbedding),
    ];

    /// What the first use of the weight and what the second does.
    fn uses(self) -> [Use; 2] {
        match self {
            Self::SharedLinears => [Use::Encode, Use::Encode],
            Self::SharedEmbedding => [Use::Decode, Use::Encode],
            _ => [Use::Encode, Use::Decode],
        }
    }
}

/// A use of the weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// X·Wᵀ.
    Encode,
    /// X·W.
    Decode,
}

/// What a file must be.
#[derive(Debug, Clone, PartialEq)]
struct Case {
    /// f and g: of what encodes and of what decodes.
    activations: [Activation; 2],
    /// Whether there are b and c.
    biases: [bool; 2],
    loss: Loss,
    reduction: Reduction,
    contributions: Contributions,
    micro_batches: Vec<u32>,
    /// With the number of steps.
    optimizer: Option<(OptimizerSettings, i32)>,
    construction: Construction,
}

const STEPS: i32 = 3;
const LOSSES: [(&str, Loss); 2] =
    [("squared-error", Loss::SquaredError), ("binary-cross-entropy", Loss::BinaryCrossEntropy)];
const REDUCTIONS: [(&str, Reduction); 2] = [("mean", Reduction::Mean), ("sum", Reduction::Sum)];
/// Which use of the weight is detached, and so which contributions are left.
const DETACHED: [(&str, Contributions); 3] = [
    ("none", Contributions::Both),
    ("encoder", Contributions::Decoder),
    ("decoder", Contributions::Encoder),
];

fn optimizers() -> Vec<(&'static str, OptimizerSettings)> {
    let sgd = SgdSettings::new(0.0625);
    let momentum = SgdSettings::new(0.03125).with_momentum(0.875);
    let nesterov = momentum.with_nesterov(true);
    let adam = AdamSettings::adam(0.01);
    let adamw = AdamSettings::adamw(0.01);
    let other = |settings: AdamSettings| settings.with_betas([0.75, 0.96]).with_epsilon(1e-3);
    vec![
        ("sgd", sgd.into()),
        ("sgd-decay", sgd.with_weight_decay(0.125).into()),
        ("momentum", momentum.into()),
        ("momentum-decay", momentum.with_weight_decay(0.125).into()),
        ("nesterov", nesterov.into()),
        ("nesterov-decay", nesterov.with_weight_decay(0.125).into()),
        ("adam", adam.into()),
        ("adam-betas", other(adam).into()),
        ("adam-decay", adam.with_weight_decay(0.125).into()),
        ("adamw", adamw.into()),
        ("adamw-decay", adamw.with_weight_decay(0.25).into()),
        ("adamw-betas", other(adamw).into()),
    ]
}

/// Every case that there must be, by the name of its file.
fn cases() -> BTreeMap<String, Case> {
    let basis = Case {
        activations: [Activation::Tanh, Activation::Sigmoid],
        biases: [true; 2],
        loss: Loss::SquaredError,
        reduction: Reduction::Mean,
        contributions: Contributions::Both,
        micro_batches: vec![5],
        optimizer: None,
        construction: Construction::Layer,
    };
    let momentum = optimizers().into_iter().find(|(name, _)| *name == "momentum");
    let momentum = momentum.map(|(_, settings)| (settings, STEPS));
    // With an update, for which a sum has gradients of a useful size.
    let trained = Case { reduction: Reduction::Sum, optimizer: momentum, ..basis.clone() };
    let mut cases = BTreeMap::new();
    let mut add = |name: String, case: Case| assert_eq!(cases.insert(name, case), None);
    for activation in Activation::ALL {
        let identity = Activation::Identity;
        for (side, activations, micro_batches) in [
            ("encoder", [activation, identity], vec![5]),
            ("decoder", [identity, activation], vec![5]),
            ("both", [activation; 2], vec![4]),
        ] {
            let case = Case { activations, micro_batches, ..basis.clone() };
            add(format!("activation-{activation}-{side}"), case);
        }
    }
    let linear_decoder = [Activation::Tanh, Activation::Identity];
    for (loss_name, loss) in LOSSES {
        for (name, reduction) in REDUCTIONS {
            let case = Case { activations: linear_decoder, loss, reduction, ..basis.clone() };
            add(format!("loss-{loss_name}-{name}"), case);
        }
    }
    for (name, biases) in [
        ("none", [false, false]),
        ("encoder", [true, false]),
        ("decoder", [false, true]),
        ("both", [true, true]),
    ] {
        add(format!("bias-{name}"), Case { biases, ..basis.clone() });
    }
    for (name, settings) in optimizers() {
        let optimizer = Some((settings, STEPS));
        add(format!("optimizer-{name}"), Case { optimizer, ..trained.clone() });
    }
    for (name, contributions) in DETACHED {
        add(format!("detach-{name}"), Case { contributions, ..trained.clone() });
    }
    for (name, reduction) in REDUCTIONS {
        let case = Case { micro_batches: vec![2, 2, 1], reduction, ..trained.clone() };
        add(format!("micro-batches-{name}"), case);
    }
    for (name, construction) in Construction::ALL {
        let case = Case { construction, activations: linear_decoder, ..trained.clone() };
        match construction {
            Construction::Layer => {}
            Construction::SharedEmbedding => {
                let case = Case {
                    activations: [Activation::Identity, Activation::Tanh],
                    biases: [true, false],
                    loss: Loss::BinaryCrossEntropy,
                    ..case
                };
                add(format!("construction-{name}"), case);
            }
            _ => add(format!("construction-{name}"), case),
        }
    }
    cases
}

impl Case {
    /// What a file's metadata say; fails on what it does not know.
    fn of_metadata(metadata: &BTreeMap<String, String>) -> Self {
        let mut rest = metadata.clone();
        let mut take = |key: &str| {
            rest.remove(key).unwrap_or_else(|| panic!("the metadata lack `{key}`: {metadata:?}"))
        };
        fn named<T: Copy>(list: &[(&str, T)], name: &str) -> T {
            let found = list.iter().find(|(known, _)| *known == name);
            found.unwrap_or_else(|| panic!("an unknown name: {name}")).1
        }
        fn parsed<T: for<'a> serde::Deserialize<'a>>(text: &str) -> T {
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
        }
        take("torch");
        let activation = |name: String| name.parse().expect("an activation");
        let biases = ["encoder_bias", "decoder_bias"].map(|side| parsed(&take(side)));
        let activations = ["encoder_activation", "decoder_activation"].map(&mut take);
        let optimizer = match take("optimizer").as_str() {
            "none" => None,
            "sgd" => {
                assert_eq!(parsed::<f64>(&take("dampening")), 0.0, "the library has no dampening");
                let settings = SgdSettings::new(parsed(&take("lr")))
                    .with_momentum(parsed(&take("momentum")))
                    .with_nesterov(parsed(&take("nesterov")))
                    .with_weight_decay(parsed(&take("weight_decay")));
                Some((settings.into(), parsed(&take("steps"))))
            }
            kind => {
                let lr = parsed(&take("lr"));
                let settings = match kind {
                    "adam" => AdamSettings::adam(lr),
                    "adamw" => AdamSettings::adamw(lr),
                    _ => panic!("an unknown optimizer: {kind}"),
                };
                let settings = settings
                    .with_betas(parsed(&take("betas")))
                    .with_epsilon(parsed(&take("eps")))
                    .with_weight_decay(parsed(&take("weight_decay")));
                Some((settings.into(), parsed(&take("steps"))))
            }
        };
        let case = Self {
            activations: activations.map(activation),
            biases,
            loss: named(&LOSSES, &take("loss")),
            reduction: named(&REDUCTIONS, &take("reduction")),
            contributions: named(&DETACHED, &take("detached")),
            micro_batches: take("micro_batches").split(',').map(parsed::<u32>).collect(),
            optimizer,
            construction: named(&Construction::ALL, &take("construction")),
        };
        assert!(rest.is_empty(), "unknown metadata: {rest:?}");
        case
    }

    /// The two uses of the weight in the order in which they come: what each does, its activation, and
    /// the name of its bias. Where both encode, the second is called the decoder.
    fn uses(&self) -> [(Use, Activation, &'static str); 2] {
        let [f, g] = self.activations;
        let [encoder, decoder] = ["encoder_bias", "decoder_bias"];
        match self.construction.uses() {
            [Use::Decode, second] => [(Use::Decode, g, decoder), (second, f, encoder)],
            [first, second] => [(first, f, encoder), (second, g, decoder)],
        }
    }

    /// The weight and the biases that there are.
    fn parameters(&self) -> Vec<&'static str> {
        let biases = ["encoder_bias", "decoder_bias"].into_iter().zip(self.biases);
        let biases = biases.filter_map(|(name, given)| given.then_some(name));
        std::iter::once("weight").chain(biases).collect()
    }

    /// What the optimizer keeps of each parameter.
    fn states(&self) -> &'static [&'static str] {
        match self.optimizer {
            None => &[],
            Some((OptimizerSettings::Sgd(settings), _)) if settings.momentum == 0.0 => &[],
            Some((OptimizerSettings::Sgd(_), _)) => &["velocity"],
            Some(_) => &["first_moment", "second_moment"],
        }
    }

    /// The tensors of the file: operands and results.
    fn tensors(&self) -> [BTreeSet<String>; 2] {
        let parameters = self.parameters();
        let operands = parameters.iter().copied().chain(["input", "target"]);
        let mut results = BTreeSet::from(["code", "output", "loss"].map(String::from));
        if self.construction != Construction::SharedEmbedding {
            results.insert("gradient.input".into());
        }
        let after = self.optimizer.is_some().then_some("after");
        let kinds = std::iter::once("gradient").chain(after).chain(self.states().iter().copied());
        for kind in kinds {
            results.extend(parameters.iter().map(|parameter| format!("{kind}.{parameter}")));
        }
        [operands.map(String::from).collect(), results]
    }
}

/// A tensor of a file.
#[derive(Debug, Clone, PartialEq)]
struct Tensor {
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// A file.
struct Golden {
    name: String,
    case: Case,
    tensors: BTreeMap<String, Tensor>,
}

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "parity", "golden"].iter().collect()
}

impl Golden {
    fn read(name: &str) -> Self {
        let path = folder().join(name).with_extension("safetensors");
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("a header");
        let metadata = header.metadata().clone().expect("metadata");
        let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let tensors = file.iter().map(|(tensor, view)| {
            assert_eq!(view.dtype(), safetensors::Dtype::F32, "{name}: {tensor}");
            let values = bytemuck::pod_collect_to_vec::<u8, f32>(view.data());
            (tensor.to_owned(), Tensor { shape: view.shape().to_vec(), values })
        });
        Self {
            name: name.to_owned(),
            case: Case::of_metadata(&metadata.into_iter().collect()),
            tensors: tensors.collect(),
        }
    }

    /// All files, in the order of their names.
    fn all() -> Vec<Self> {
        cases().keys().map(|name| Self::read(name)).collect()
    }

    fn tensor(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("{}: no tensor `{name}`", self.name))
    }

    /// Rows and columns; a vector is a row.
    fn shape(&self, name: &str) -> [u32; 2] {
        match self.tensor(name).shape[..] {
            [columns] => [1, columns as u32],
            [rows, columns] => [rows as u32, columns as u32],
            ref other => panic!("{}: `{name}` is {other:?}", self.name),
        }
    }

    /// The operand on the device, if the case has it.
    fn put(&self, rig: &Rig, name: &str) -> Option<Matrix> {
        let tensor = self.tensors.get(name)?;
        let [rows, columns] = self.shape(name);
        Some(rig.put_f32(rows, columns, &tensor.values, Place::Tight))
    }

    /// The ranges of rows of the micro-batches.
    fn parts(&self) -> Vec<Range<u32>> {
        let ends = self.case.micro_batches.iter().scan(0, |end, size| {
            *end += size;
            Some(*end - size..*end)
        });
        ends.collect()
    }

    /// Fails where a result is further from PyTorch's than f32 can bring it.
    fn compare(&self, way: &str, results: &BTreeMap<String, Vec<f32>>, near: &Nears) {
        for (name, got) in results {
            let (want, near) = (self.tensor(name), &near[name]);
            let what = format!("{}.safetensors, {way}: `{name}`", self.name);
            assert_eq!(got.len(), want.values.len(), "{what}: number of elements");
            for (index, (&got, &want)) in got.iter().zip(&want.values).enumerate() {
                let error = (f64::from(got) - f64::from(want)).abs();
                // PyTorch's value was rounded, too.
                let tolerance = near[index].error + ROUNDING * f64::from(want.abs());
                assert!(
                    error <= tolerance,
                    "{what}, element {:?}: PyTorch has {want}, the library {got}, error {error:e}, \
                     tolerance {tolerance:e}",
                    place_of(index, &self.tensor(name).shape)
                );
            }
        }
    }
}

impl Golden {
    /// How far results are from PyTorch's, as the largest share of a result's size: of its root mean square,
    /// or of 1e-3 where that is less.
    fn distance<'a>(&self, results: &'a BTreeMap<String, Vec<f32>>) -> (f64, &'a str) {
        let size = |values: &mut dyn Iterator<Item = f64>| {
            let squares: Vec<_> = values.map(|value| value * value).collect();
            (squares.iter().sum::<f64>() / squares.len().max(1) as f64).sqrt()
        };
        let distances = results.iter().map(|(name, got)| {
            let want = &self.tensor(name).values;
            assert_eq!(got.len(), want.len(), "{}: `{name}`: number of elements", self.name);
            let pairs = got.iter().zip(want);
            let errors = &mut pairs.map(|(got, want)| f64::from(*got) - f64::from(*want));
            let of_want = size(&mut want.iter().map(|want| f64::from(*want)));
            (size(errors) / of_want.max(1e-3), name.as_str())
        });
        distances.fold((0.0, ""), |a, b| if b.0 > a.0 || b.0.is_nan() { b } else { a })
    }
}

/// The indices of an element, by its place in memory.
fn place_of(index: usize, shape: &[usize]) -> Vec<usize> {
    let mut rest = index;
    let mut place: Vec<usize> = shape
        .iter()
        .rev()
        .map(|size| {
            let at = rest % size;
            rest /= size;
            at
        })
        .collect();
    place.reverse();
    place
}

/// Results with bounds, by the names of the tensors.
type Nears = BTreeMap<String, Vec<Near>>;

/// A matrix of numbers with bounds.
#[derive(Clone)]
struct Grid {
    columns: usize,
    values: Vec<Near>,
}

impl Grid {
    fn new(rows: usize, columns: usize, value: impl Fn(usize, usize) -> Near) -> Self {
        let places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        Self { columns, values: places.map(|(row, column)| value(row, column)).collect() }
    }

    fn rows(&self) -> usize {
        self.values.len() / self.columns
    }

    fn at(&self, row: usize, column: usize) -> Near {
        self.values[row * self.columns + column]
    }

    fn zip(&self, other: &Self, f: impl Fn(Near, Near) -> Near) -> Self {
        let values = self.values.iter().zip(&other.values).map(|(a, b)| f(*a, *b));
        Self { columns: self.columns, values: values.collect() }
    }

    fn range(&self, rows: &Range<u32>) -> Self {
        let [start, end] = [rows.start, rows.end].map(|row| row as usize * self.columns);
        Self { columns: self.columns, values: self.values[start..end].to_vec() }
    }

    /// self·Wᵀ or self·W, and a bias.
    fn linear(&self, weight: &Self, side: Use, bias: Option<&Self>) -> Self {
        let (depth, columns) = match side {
            Use::Encode => (weight.columns, weight.rows()),
            Use::Decode => (weight.rows(), weight.columns),
        };
        Self::new(self.rows(), columns, |row, column| {
            let products = (0..depth).map(|k| {
                let w =
                    if side == Use::Encode { weight.at(column, k) } else { weight.at(k, column) };
                (self.at(row, k), w)
            });
            // The bias is one more term.
            let bias = bias.map(|bias| (bias.at(0, column), Near::exact(1.0)));
            Near::sum_of_products(products.chain(bias))
        })
    }
}

/// The case by the formulas, with bounds.
fn reference(golden: &Golden) -> Nears {
    let case = &golden.case;
    let grid = |name: &str| {
        let tensor = golden.tensors.get(name)?;
        let values = tensor.values.iter().map(|value| Near::exact(f64::from(*value)));
        Some(Grid { columns: *tensor.shape.last()?, values: values.collect() })
    };
    let [input, target] = ["input", "target"].map(|name| grid(name).expect("an operand"));
    let names = case.parameters();
    let mut learned: BTreeMap<&str, Vec<Learned>> = BTreeMap::new();
    for name in &names {
        let values = grid(name).expect("a parameter").values;
        learned.insert(name, values.into_iter().map(Learned::new).collect());
    }
    let pass = |learned: &BTreeMap<&str, Vec<Learned>>| {
        let parameters = learned.iter().map(|(name, values)| {
            let columns = golden.shape(name)[1] as usize;
            (*name, Grid { columns, values: values.iter().map(|one| one.value).collect() })
        });
        let parameters = parameters.collect();
        let mut all = Nears::new();
        for part in golden.parts() {
            let more = pass_of(case, &parameters, &input.range(&part), &target.range(&part));
            for (name, values) in more {
                let is_sum = name.strip_prefix("gradient.").is_some_and(|of| of != "input");
                let so_far = all.entry(name).or_default();
                if is_sum && !so_far.is_empty() {
                    let sums = so_far.iter().zip(values).map(|(a, b)| *a + b);
                    *so_far = sums.collect();
                } else {
                    so_far.extend(values);
                }
            }
        }
        all
    };
    let mut results = pass(&learned);
    if let Some((settings, steps)) = case.optimizer {
        for step in 1..=steps {
            let gradients = pass(&learned);
            for name in &names {
                let values = learned.get_mut(name).expect("a parameter");
                for (one, gradient) in
                    values.iter_mut().zip(&gradients[&format!("gradient.{name}")])
                {
                    match &settings {
                        OptimizerSettings::Sgd(settings) => one.sgd(settings, *gradient),
                        OptimizerSettings::Adam(settings) => one.adam(settings, *gradient, step),
                        _ => unreachable!("an optimizer that this test does not know"),
                    }
                }
                let after = results.entry(format!("after.{name}")).or_default();
                after.extend(values.iter().map(|one| one.value));
            }
        }
        for (name, values) in &learned {
            for state in case.states() {
                let of = |one: &Learned| match *state {
                    "velocity" => one.velocity,
                    "first_moment" => one.first_moment,
                    _ => one.second_moment,
                };
                results.insert(format!("{state}.{name}"), values.iter().map(of).collect());
            }
        }
    }
    results
}

/// Forward and backward through one micro-batch.
fn pass_of(
    case: &Case,
    parameters: &BTreeMap<&str, Grid>,
    input: &Grid,
    target: &Grid,
) -> Vec<(String, Vec<Near>)> {
    let weight = &parameters["weight"];
    let [(first, f, first_bias), (second, g, second_bias)] = case.uses();
    let activated = |z: &Grid, activation| z.zip(z, |z, _| z.activate(activation));
    let through = |gradient: &Grid, activation, z: &Grid, y: &Grid| {
        let slopes = z.zip(y, |z, y| Near::slope(activation, z, y));
        gradient.zip(&slopes, |gradient, slope| gradient * slope)
    };
    let z = input.linear(weight, first, parameters.get(first_bias));
    let h = activated(&z, f);
    let a = h.linear(weight, second, parameters.get(second_bias));
    let y = activated(&a, g);

    let scale = Near::scale(case.reduction, y.values.len());
    let terms = y.zip(target, |p, t| Near::loss(case.loss, p, t));
    let loss = scale * Near::sum(terms.values.iter().copied());
    let dy = y.zip(target, |p, t| scale * Near::loss_slope(case.loss, p, t));
    let da = through(&dy, g, &a, &y);
    let back = |delta: &Grid, side| {
        let other = if side == Use::Encode { Use::Decode } else { Use::Encode };
        delta.linear(weight, other, None)
    };
    let dz = through(&back(&da, second), f, &z, &h);
    let dx = back(&dz, first);

    let columns = weight.columns;
    // Both contributions in one sum.
    let counts = |side| match case.contributions {
        Contributions::Both => true,
        Contributions::Encoder => side == Use::Encode,
        Contributions::Decoder => side == Use::Decode,
    };
    let uses = [(first, input, &dz), (second, &h, &da)];
    let dw = Grid::new(weight.rows(), columns, |row, column| {
        let uses = uses.iter().filter(|(side, ..)| counts(*side));
        Near::sum_of_products(uses.flat_map(|(side, x, delta)| {
            (0..x.rows()).map(move |sample| match side {
                Use::Encode => (delta.at(sample, row), x.at(sample, column)),
                Use::Decode => (x.at(sample, row), delta.at(sample, column)),
            })
        }))
    });
    let sums = |delta: &Grid| {
        let column = |column| Near::sum((0..delta.rows()).map(|row| delta.at(row, column)));
        (0..delta.columns).map(column).collect()
    };
    let named = |name: &str, grid: Grid| (name.to_owned(), grid.values);
    let mut results = vec![
        ("loss".to_owned(), vec![loss]),
        named("gradient.weight", dw),
        named("gradient.input", dx),
    ];
    for (bias, delta) in [(first_bias, &dz), (second_bias, &da)] {
        if parameters.contains_key(bias) {
            results.push((format!("gradient.{bias}"), sums(delta)));
        }
    }
    results.extend([named("code", h), named("output", y)]);
    results
}

/// What the device computes, by the names of the tensors.
type Results = BTreeMap<String, Vec<f32>>;

/// A case on a device: operands, and what is learned.
struct Setup<'a> {
    rig: &'a Rig,
    golden: &'a Golden,
    input: Matrix,
    target: Matrix,
    /// By the names of the tensors, in the order of [`Case::parameters`]: value and gradient.
    learned: Vec<(&'static str, Matrix, Matrix)>,
    optimizer: Option<Optimizer>,
}

impl<'a> Setup<'a> {
    /// With these matrices for the parameters.
    fn new(rig: &'a Rig, golden: &'a Golden, learned: Vec<(&'static str, Matrix, Matrix)>) -> Self {
        let parameters: Parameters =
            learned.iter().map(|(name, value, _)| Parameter::new(*name, value.clone())).collect();
        let optimizer = golden
            .case
            .optimizer
            .map(|(settings, _)| Optimizer::new(&rig.kernels, &parameters, settings).unwrap());
        let put = |name| golden.put(rig, name).expect("an operand");
        Self { rig, golden, input: put("input"), target: put("target"), learned, optimizer }
    }

    /// With matrices of the test's, the gradients poisoned.
    fn of_buffers(rig: &'a Rig, golden: &'a Golden) -> Self {
        let learned = golden.case.parameters().into_iter().map(|name| {
            let value = golden.put(rig, name).expect("a parameter");
            let [rows, columns] = value.shape();
            (name, value, rig.poisoned(rows, columns, Place::Tight))
        });
        let learned = learned.collect();
        Self::new(rig, golden, learned)
    }

    fn value(&self, name: &str) -> Option<&Matrix> {
        self.learned.iter().find(|(known, ..)| *known == name).map(|(_, value, _)| value)
    }

    fn gradient(&self, name: &str) -> Option<&Matrix> {
        self.learned.iter().find(|(known, ..)| *known == name).map(|(.., gradient)| gradient)
    }

    /// Runs all steps of the case. Read before the first update are the gradients, all but those of
    /// `unwritten`, and `others`: the parts of each, one micro-batch after the other.
    fn run(
        &self,
        gradients: &Commands,
        update: &Commands,
        others: &[(&str, Vec<&Matrix>)],
        unwritten: &[&str],
    ) -> Results {
        let mut results = Results::new();
        self.rig.run(gradients);
        for (name, parts) in others {
            let values = parts.iter().flat_map(|part| self.rig.get(part)).collect();
            results.insert((*name).to_owned(), values);
        }
        for (name, _, gradient) in &self.learned {
            if !unwritten.contains(name) {
                results.insert(format!("gradient.{name}"), self.rig.get(gradient));
            }
        }
        let Some(optimizer) = &self.optimizer else { return results };
        for step in 0..STEPS {
            if step > 0 {
                self.rig.run(gradients);
            }
            self.rig.run(update);
            for (name, value, _) in &self.learned {
                results.entry(format!("after.{name}")).or_default().extend(self.rig.get(value));
            }
        }
        for (parameter, state) in optimizer.states() {
            let kept = match state {
                OptimizerState::Sgd(None) => vec![],
                OptimizerState::Sgd(Some(velocity)) => vec![("velocity", velocity)],
                OptimizerState::Adam(moments) => vec![
                    ("first_moment", moments.first_moment()),
                    ("second_moment", moments.second_moment()),
                ],
                _ => unreachable!("a state that this test does not know"),
            };
            for (kind, matrix) in kept {
                results.insert(format!("{kind}.{}", parameter.name), self.rig.get(matrix));
            }
        }
        results
    }

    fn update(&self) -> Commands {
        let pairs: Vec<_> =
            self.learned.iter().map(|(_, value, gradient)| (value, gradient)).collect();
        let update = |optimizer: &Optimizer| optimizer.update(&pairs).unwrap();
        self.optimizer.as_ref().map_or_else(Commands::default, update)
    }

    /// Whether a micro-batch's gradients begin a sum or are added to it.
    fn accumulate(part: &Range<u32>) -> Accumulate {
        if part.start == 0 { Accumulate::Overwrite } else { Accumulate::Add }
    }

    fn poisoned_or_none(&self, wanted: bool, [rows, columns]: [u32; 2]) -> Option<Matrix> {
        wanted.then(|| self.rig.poisoned(rows, columns, Place::Tight))
    }

    /// The case by the functions of [`tied_linear::Kernels`], one for each step of the formulas.
    fn by_functions(&self) -> Results {
        let (case, kernels) = (&self.golden.case, &self.rig.kernels);
        let matrix = self.value("weight").expect("a weight");
        let weight = Weight::new(kernels, matrix.clone()).unwrap();
        let dw = self.gradient("weight").expect("its gradient");
        let [(first, f, first_bias), (second, g, second_bias)] = case.uses();
        let poisoned = |rows, columns| self.rig.poisoned(rows, columns, Place::Tight);
        let length = |side| if side == Use::Encode { weight.hidden() } else { weight.inputs() };
        let forward = |side, call: &Linear<'_>| match side {
            Use::Encode => kernels.encode(&weight, call).unwrap(),
            Use::Decode => kernels.decode(&weight, call).unwrap(),
        };
        let back = |side, call: &Gradient<'_>| match side {
            Use::Encode => kernels.input_gradient(&weight, call).unwrap(),
            Use::Decode => kernels.code_gradient(&weight, call).unwrap(),
        };
        let mut commands = Commands::default();
        let mut kept: Vec<[Matrix; 4]> = Vec::new();
        for part in self.golden.parts() {
            let [x, target] =
                [&self.input, &self.target].map(|all| all.row_range(part.clone()).unwrap());
            let accumulate = Self::accumulate(&part);
            let batch = x.rows();
            let [hs, ys] = [first, second].map(|side| [batch, length(side)]);
            let [h, dz] = [(); 2].map(|()| poisoned(hs[0], hs[1]));
            let [y, da] = [(); 2].map(|()| poisoned(ys[0], ys[1]));
            let z = self.poisoned_or_none(f.needs_preactivation(), hs);
            let a = self.poisoned_or_none(g.needs_preactivation(), ys);
            let (loss, dx) = (poisoned(1, 1), poisoned(batch, x.columns()));

            let call = Linear::new(&x, &h).with_bias(self.value(first_bias)).with_activation(f);
            commands = commands.then(forward(first, &call.with_preactivation(z.as_ref())));
            let call = Linear::new(&h, &y).with_bias(self.value(second_bias)).with_activation(g);
            commands = commands.then(forward(second, &call.with_preactivation(a.as_ref())));
            let saved = if g.needs_preactivation() { a.as_ref() } else { Some(&y) };
            let call = LossGradient::new(&y, &target, &loss)
                .with_reduction(case.reduction)
                .with_delta(Some(&da))
                .through(g, saved);
            commands = commands.then(losses::commands(kernels, case.loss, &call).unwrap());
            let saved = if f.needs_preactivation() { z.as_ref() } else { Some(&h) };
            commands = commands.then(back(second, &Gradient::new(&da, &dz).through(f, saved)));
            commands = commands.then(back(first, &Gradient::new(&dz, &dx)));
            let whole = Backward {
                code: &h,
                output_delta: &da,
                code_delta: &dz,
                input: &x,
                gradient: dw,
                contributions: case.contributions,
                accumulate,
            };
            let calls = match (first, second) {
                (Use::Encode, Use::Decode) => vec![whole],
                // What is decoded first is the code, and what is encoded then the input.
                (Use::Decode, Use::Encode) => vec![Backward {
                    code: &x,
                    output_delta: &dz,
                    code_delta: &da,
                    input: &h,
                    ..whole
                }],
                // Both encode: two dispatches, of which the second adds. What only a decoder's
                // contribution needs is not read.
                _ => {
                    let one = Backward { contributions: Contributions::Encoder, ..whole };
                    let two = Backward { code_delta: &da, input: &h, ..one };
                    vec![one, Backward { accumulate: Accumulate::Add, ..two }]
                }
            };
            for call in calls {
                commands = commands.then(kernels.backward(&call).unwrap());
            }
            for (bias, delta) in [(first_bias, &dz), (second_bias, &da)] {
                if let Some(gradient) = self.gradient(bias) {
                    let call = BiasGradient { delta, gradient, accumulate };
                    commands = commands.then(kernels.bias_gradient(&call).unwrap());
                }
            }
            kept.push([h, y, loss, dx]);
        }
        let all = |index: usize| kept.iter().map(|matrices| &matrices[index]).collect();
        let mut others = vec![("code", all(0)), ("output", all(1)), ("loss", all(2))];
        if case.construction != Construction::SharedEmbedding {
            others.push(("gradient.input", all(3)));
        }
        self.run(&commands, &self.update(), &others, &[])
    }

    /// The layer of the parameters, in the way that the construction has its like in.
    fn layer(&self) -> TiedLinear {
        let kernels = &self.rig.kernels;
        let [f, g] = self.golden.case.activations;
        let weight = Weight::new(kernels, self.value("weight").expect("a weight").clone()).unwrap();
        let [b, c] = ["encoder_bias", "decoder_bias"].map(|bias| self.value(bias).cloned());
        let encoder = Encoder::new(kernels, &weight, b, f).unwrap();
        let decoder = Decoder::new(kernels, encoder.weight(), c, g).unwrap();
        TiedLinear::from_halves(encoder, decoder).unwrap()
    }

    fn gradients(&self) -> Gradients {
        Gradients {
            weight: self.gradient("weight").expect("the weight's gradient").clone(),
            encoder_bias: self.gradient("encoder_bias").cloned(),
            decoder_bias: self.gradient("decoder_bias").cloned(),
        }
    }

    /// The case by the passes of [`TiedLinear`].
    fn by_layer(&self) -> Results {
        let (case, rig) = (&self.golden.case, self.rig);
        let (layer, gradients) = (self.layer(), self.gradients());
        let [f, g] = case.activations;
        let mut commands = Commands::default();
        let mut kept: Vec<(Tape, Matrix, Matrix)> = Vec::new();
        for part in self.golden.parts() {
            let [x, target] =
                [&self.input, &self.target].map(|all| all.row_range(part.clone()).unwrap());
            let [code, whole] = [[x.rows(), layer.weight().hidden()], x.shape()];
            let poisoned = |[rows, columns]: [u32; 2]| rig.poisoned(rows, columns, Place::Tight);
            let tape = Tape {
                code: poisoned(code),
                output: poisoned(whole),
                code_preactivation: self.poisoned_or_none(f.needs_preactivation(), code),
                output_preactivation: self.poisoned_or_none(g.needs_preactivation(), whole),
                code_delta: poisoned(code),
                output_delta: poisoned(whole),
            };
            let (loss, dx) = (poisoned([1, 1]), poisoned(whole));
            let call = LossGradient::new(&tape.output, &target, &loss)
                .with_reduction(case.reduction)
                .with_delta(Some(&tape.output_delta))
                .through(g, tape.saved_output(g));
            let backward = LayerBackward::new(&x, &tape, &gradients)
                .with_input_gradient(Some(&dx))
                .with_contributions(case.contributions)
                .with_accumulate(Self::accumulate(&part));
            commands = commands
                .then(layer.forward(&x, &tape).unwrap())
                .then(losses::commands(&rig.kernels, case.loss, &call).unwrap())
                .then(layer.backward(&backward).unwrap());
            kept.push((tape, loss, dx));
        }
        let others = [
            ("code", kept.iter().map(|(tape, ..)| &tape.code).collect()),
            ("output", kept.iter().map(|(tape, ..)| &tape.output).collect()),
            ("loss", kept.iter().map(|(_, loss, _)| loss).collect()),
            ("gradient.input", kept.iter().map(|(.., dx)| dx).collect()),
        ];
        self.run(&commands, &self.update(), &others, &[])
    }

    /// The case by a [`TrainingStep`] for each micro-batch, and the update of the last. Without an
    /// optimizer in the case, none of the update.
    fn by_training_step(&self, fused: bool, elements: ElementTypes) -> Results {
        let case = &self.golden.case;
        let (layer, gradients) = (self.layer(), self.gradients());
        let unused;
        let optimizer = match &self.optimizer {
            Some(optimizer) => optimizer,
            None => {
                let settings = SgdSettings::new(0.0);
                unused = Optimizer::new(&self.rig.kernels, &layer.parameters(), settings).unwrap();
                &unused
            }
        };
        let steps = self.golden.parts().into_iter().map(|part| {
            let options = TrainingOptions::default()
                .with_loss(case.loss)
                .with_reduction(case.reduction)
                .with_contributions(case.contributions)
                .with_accumulate(Self::accumulate(&part))
                .with_elements(elements)
                .with_fused_update(fused);
            let [x, target] =
                [&self.input, &self.target].map(|all| all.row_range(part.clone()).unwrap());
            TrainingStep::new(&layer, optimizer, &gradients, &x, &target, options).unwrap()
        });
        let steps: Vec<_> = steps.collect();
        let all = steps.iter().map(|step| step.gradient_commands().clone());
        let all = all.fold(Commands::default(), Commands::then);
        let update = steps.last().expect("a micro-batch").update_commands();
        let others = [
            ("code", steps.iter().map(|step| &step.tape().code).collect()),
            ("loss", steps.iter().map(TrainingStep::loss).collect()),
        ];
        self.run(&all, update, &others, if fused { &["weight"] } else { &[] })
    }
}

/// A layer with all buffers of the library's own making, as [`Setup`] has them, its weight read and the
/// weight's gradient kept in this type.
fn learned_of_options(
    rig: &Rig,
    golden: &Golden,
    element: ElementType,
) -> Vec<(&'static str, Matrix, Matrix)> {
    let [hidden, inputs] = golden.shape("weight");
    let [b, c] = golden.case.biases;
    let options = TiedLinearOptions::new(inputs, hidden).with_biases(b, c);
    let options = options.with_weight_element(element);
    let layer = TiedLinear::new(&rig.kernels, &options).unwrap();
    let gradients = Gradients::new_as(&layer, element).unwrap();
    let pairs = gradients.pairs(&layer).into_iter();
    let pairs = golden.case.parameters().into_iter().zip(pairs);
    let learned = pairs.map(|(name, (value, gradient))| {
        let values = &golden.tensor(name).values;
        value.write(&rig.gpu.device, &rig.gpu.queue, values).unwrap();
        (name, value.clone(), gradient.clone())
    });
    learned.collect()
}

/// There is a file for each case and a case for each file; a file is what its name says, and has what
/// its case needs and no more.
#[test]
fn the_files_are_the_cases() {
    let files = std::fs::read_dir(folder()).expect("the folder of the files");
    let files: BTreeSet<_> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    let expected: BTreeSet<_> =
        cases().into_keys().map(|name| format!("{name}.safetensors")).collect();
    let differing: Vec<_> = files.symmetric_difference(&expected).collect();
    assert!(differing.is_empty(), "files without a case, or cases without a file: {differing:?}");
    for (golden, case) in Golden::all().iter().zip(cases().values()) {
        assert_eq!(golden.case, *case, "{}", golden.name);
        let [operands, results] = case.tensors();
        let names: BTreeSet<_> = golden.tensors.keys().cloned().collect();
        assert_eq!(names, operands.union(&results).cloned().collect(), "{}", golden.name);
        let samples: u32 = case.micro_batches.iter().sum();
        assert_eq!(golden.shape("input")[0], samples, "{}", golden.name);
    }
}

/// PyTorch's results are those of the formulas, which make the bounds. And the bounds are tight enough
/// to find a mistake: of the largest element of a tensor (or of 0.1 where that is less) at most 5e-5 in
/// a pass, and after three updates, in which the worst cases of all add up, at most 3e-4.
#[test]
fn the_files_are_what_the_formulas_say() {
    let mut loosest = [(0.0, String::new()), (0.0, String::new())];
    for golden in Golden::all() {
        let near = reference(&golden);
        for name in &golden.case.tensors()[1] {
            let want = &golden.tensor(name).values;
            assert_eq!(near[name].len(), want.len(), "{}: `{name}`", golden.name);
            let largest = want.iter().fold(0.1, |most: f32, value| value.abs().max(most));
            let is_of_a_pass = ["code", "output", "loss"].contains(&name.as_str())
                || name.starts_with("gradient.");
            let loosest = &mut loosest[usize::from(!is_of_a_pass)];
            for (near, &want) in near[name].iter().zip(want) {
                let error = (near.value - f64::from(want)).abs();
                assert!(
                    error <= 1.001 * ROUNDING * near.value.abs() + 1e-13,
                    "{}: `{name}`: PyTorch has {want}, the formulas say {}",
                    golden.name,
                    near.value
                );
                let share = near.error / f64::from(largest);
                if share > loosest.0 {
                    *loosest = (share, format!("{}: `{name}`", golden.name));
                }
            }
        }
    }
    println!("the loosest bounds: {loosest:?}");
    assert!(loosest[0].0 < 5e-5 && loosest[1].0 < 3e-4, "{loosest:?}");
}

#[test]
fn results_are_pytorchs() {
    let all: Vec<_> = Golden::all().into_iter().map(|file| (reference(&file), file)).collect();
    on_every_adapter(|rig| {
        for (near, golden) in &all {
            let case = &golden.case;
            let mut compared = BTreeSet::new();
            let mut compare = |way, results: Results| {
                golden.compare(way, &results, near);
                compared.extend(results.into_keys());
            };
            compare("by functions", Setup::of_buffers(rig, golden).by_functions());
            if case.construction.uses() == [Use::Encode, Use::Decode] {
                let setup = || match case.construction {
                    Construction::Parametrize => {
                        Setup::new(rig, golden, learned_of_options(rig, golden, ElementType::F32))
                    }
                    _ => Setup::of_buffers(rig, golden),
                };
                let in_f32 = ElementTypes::default();
                compare("by a layer", setup().by_layer());
                compare("by a training step", setup().by_training_step(false, in_f32));
                if case.optimizer.is_some() && case.micro_batches.len() == 1 {
                    compare("by a fused training step", setup().by_training_step(true, in_f32));
                }
            }
            assert_eq!(compared, case.tensors()[1], "{}: what was compared", golden.name);
        }
    });
}

/// Weight, code, deltas and the weight's gradient in 16 bits: a few roundings from PyTorch's f32, of which
/// one may take a ReLU's input across zero.
#[test]
fn results_in_16_bits_are_pytorchs_but_for_roundings() {
    let all = Golden::all();
    once_per_adapter(|rig| {
        for (element, rounding) in
            [(ElementType::F16, 2f64.powi(-11)), (ElementType::Bf16, 2f64.powi(-8))]
        {
            let mut furthest = (0.0, String::new());
            for golden in &all {
                if golden.case.construction.uses() != [Use::Encode, Use::Decode] {
                    continue;
                }
                let setup = Setup::new(rig, golden, learned_of_options(rig, golden, element));
                let results = setup.by_training_step(false, ElementTypes::all(element));
                let (distance, name) = golden.distance(&results);
                let what = format!("{}.safetensors, {element}: `{name}`", golden.name);
                assert!(distance <= 8.0 * rounding, "{what} is off by {distance:e}");
                if distance > furthest.0 {
                    furthest = (distance, what);
                }
            }
            println!("the furthest, in roundings: {:.2}, {}", furthest.0 / rounding, furthest.1);
            assert!(furthest.0 > 0.01 * rounding, "{furthest:?}: was it f32?");
        }
    });
}
