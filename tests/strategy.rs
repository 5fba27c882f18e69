//! Strategies: the table that chooses one for a product, and every one of them against the reference,
//! whole and in parts, at the edges of its tiles and steps.
//!
//! `scripts/test` runs the tests of the products themselves with every strategy besides.

mod common;

use std::collections::BTreeSet;
use std::sync::Mutex;

use common::products::{Case, Problem, Product};
use common::reference::Dense;
use common::shares::Share;
use common::{
    Place, Rig, expect_close, expect_same_bits, forced_choice, is_old_llvmpipe, on_every_adapter,
    once_per_adapter, random, whole_numbers,
};
use tied_linear::kernels::{Backward, Linear, SHADERS};
use tied_linear::shader::SOURCES;
use tied_linear::{
    Accumulate, Activation, Choice, Contributions, Error, KernelOptions, Kernels, Pattern,
    ProductShape, Strategy, StrategyTable, Weight, wgpu,
};

use Strategy::{
    LanesAlone, LanesSubgroup, LanesTall, SkinnyGroup, SkinnyLanes, SkinnySubgroup, Tile32, Tile64,
    Tile128,
};

const PATTERNS: [Pattern; 3] = [Pattern::Encode, Pattern::Decode, Pattern::Backward];

// The table.

#[test]
fn a_strategy_has_the_name_of_its_file_which_parses() {
    let names = Strategy::ALL.map(Strategy::name);
    assert_eq!(BTreeSet::from(names).len(), Strategy::ALL.len(), "{names:?}");
    for strategy in Strategy::ALL {
        let name = strategy.name();
        assert_eq!(strategy.to_string(), name);
        assert_eq!(name.parse(), Ok(strategy));
        let file = format!("{name}.wgsl");
        assert!(SOURCES.iter().any(|source| source.file == file), "no {file}");
    }
    for name in ["", "tile", "Tile32", "tile_32 ", "TILE_32", "tile_32/3", "combine"] {
        let error = name.parse::<Strategy>().unwrap_err();
        let told = names.into_iter().chain([name]);
        for part in told {
            assert!(error.contains(part), "\"{part}\" is not in \"{error}\"");
        }
    }
}

#[test]
fn a_choice_tells_its_strategy_and_parts() {
    assert_eq!(Choice::whole(Tile64), Choice { strategy: Tile64, parts: 1 });
    assert_eq!(Choice::whole(Tile64).to_string(), "tile_64");
    assert_eq!(Choice { strategy: LanesAlone, parts: 3 }.to_string(), "lanes_alone in 3 parts");
}

#[test]
fn the_products_of_a_layer_have_its_dimensions() {
    let shape = |pattern, rows, columns, depth| ProductShape { pattern, rows, columns, depth };
    let of_layer = [
        shape(Pattern::Encode, 5, 3, 7),
        shape(Pattern::Decode, 5, 7, 3),
        shape(Pattern::Backward, 3, 7, 5),
    ];
    assert_eq!(ProductShape::of_layer(5, 7, 3), of_layer);
    let single = [
        ProductShape::encode(5, 7, 3),
        ProductShape::decode(5, 7, 3),
        ProductShape::backward(5, 7, 3),
    ];
    assert_eq!(single, of_layer);
}

#[test]
fn strategies_compute_the_products_that_have_a_form_for_them() {
    for (pattern, name) in PATTERNS.into_iter().zip(["encode", "decode", "backward"]) {
        let shader = SHADERS.iter().find(|shader| shader.name == name).unwrap();
        for strategy in Strategy::ALL {
            let has_form = shader.forms.iter().any(|form| form.name == strategy.name());
            assert_eq!(strategy.computes(pattern), has_form, "{name} by {strategy}");
        }
    }
}

fn has_subgroups_of_eight(rig: &Rig) -> bool {
    let info = rig.gpu.device.adapter_info();
    rig.gpu.device.features().contains(wgpu::Features::SUBGROUP)
        && [info.subgroup_min_size, info.subgroup_max_size] == [8, 8]
}

#[test]
fn what_exceeds_the_limits_or_lacks_subgroups_is_not_available() {
    // Invocations, and bytes of workgroup memory; of skinny_subgroup also the invocations of combine,
    // which follows it always.
    let needs = |strategy| match strategy {
        Tile32 => (64, 4096),
        Tile64 => (64, 8192),
        Tile128 => (256, 16384),
        LanesSubgroup | LanesTall | LanesAlone => (8, 0),
        SkinnyGroup => (256, 4096),
        SkinnyLanes => (8, 128),
        SkinnySubgroup => (64, 0),
        // For want of features, which no rig asks for.
        Strategy::Cooperative => (u32::MAX, 0),
        other => panic!("a strategy that the test does not know: {other}"),
    };
    once_per_adapter(|rig| {
        // Its compilers would take too long.
        let is_dx12 = rig.gpu.device.adapter_info().backend == wgpu::Backend::Dx12;
        let expect = |rig: &Rig, subgroups: bool, [size, invocations, bytes]: [u32; 3]| {
            let fits = |strategy: &Strategy| {
                let (wanted, memory) = needs(*strategy);
                let is_lanes = matches!(*strategy, LanesSubgroup | LanesTall | SkinnySubgroup);
                let is_slow = *strategy == LanesTall && is_dx12;
                let has_limits = wanted <= size.min(invocations) && memory <= bytes;
                has_limits && (subgroups || !is_lanes) && !is_slow
            };
            let want: Vec<_> = Strategy::ALL.into_iter().filter(fits).collect();
            let what = format!("{size} in x, {invocations} invocations, {bytes} bytes");
            assert_eq!(StrategyTable::new(&rig.gpu.device).available(), want, "{what}");
        };
        let enough = [256, 256, 16384];
        let [x, invocations, bytes] = [
            [7, 8, 63, 64, 255, 256],
            [7, 8, 63, 64, 255, 256],
            [127, 128, 4095, 4096, 8191, 8192],
        ];
        let lower = |index: usize, values: [u32; 6]| {
            values.map(|value| {
                let mut limits = enough;
                limits[index] = value;
                limits
            })
        };
        let cases = [lower(0, x), lower(1, invocations), lower(2, bytes)].concat();
        let cases = cases.into_iter().chain([enough, [256, 256, 16383]]);
        for case @ [size, invocations, bytes] in cases {
            let low = rig.with_limits(|limits| {
                limits.max_compute_workgroup_size_x = size;
                limits.max_compute_invocations_per_workgroup = invocations;
                limits.max_compute_workgroup_storage_size = bytes;
            });
            expect(&low, has_subgroups_of_eight(rig), case);
        }
        let none = rig.with_device(wgpu::Features::empty(), rig.gpu.adapter.limits());
        expect(&none, false, enough);
    });
}

fn shape(pattern: Pattern, [rows, columns, depth]: [u32; 3]) -> ProductShape {
    ProductShape { pattern, rows, columns, depth }
}

/// Rows, columns, depth; what they are computed by, and in how many parts.
type Rule = ([u32; 3], Strategy, u32);

fn expect_rules(table: &StrategyTable, pattern: Pattern, rules: &[Rule]) {
    for &(dimensions, strategy, parts) in rules {
        let choice = table.choose(&shape(pattern, dimensions));
        assert_eq!(choice, Choice { strategy, parts }, "{pattern:?} {dimensions:?}");
    }
}

fn is_cpu(rig: &Rig) -> bool {
    rig.gpu.adapter.get_info().device_type == wgpu::DeviceType::Cpu
}

#[test]
fn the_rules_for_cpu_drivers() {
    once_per_adapter(|rig| {
        if !is_cpu(rig) {
            println!("NOT RUN: not a CPU driver");
            return;
        }
        let bare = rig.with_device(wgpu::Features::empty(), rig.gpu.adapter.limits());
        for rig in [rig, &bare] {
            let table = StrategyTable::new(&rig.gpu.device);
            let subgroups = has_subgroups_of_eight(rig);
            let lanes = if subgroups { LanesSubgroup } else { LanesAlone };
            let is_old = is_old_llvmpipe(rig);
            let tall = if subgroups && is_old { LanesTall } else { lanes };
            let skinny = if subgroups { SkinnySubgroup } else { SkinnyLanes };
            // Rows decide, for products with the weight.
            let few = [
                (Pattern::Encode, SkinnyLanes),
                (Pattern::Decode, skinny),
                (Pattern::Backward, lanes),
            ];
            for (pattern, few) in few {
                let rules = [
                    ([0, 7, 9], few, 1),
                    ([1, 1000, 511], few, 1),
                    ([4, 1, 1], few, 1),
                    ([5, 1, 1], lanes, 1),
                    ([1000, 1000, 1000], tall, 1),
                    // Eight tiles of 64×32, the last of them more than half full.
                    ([64, 224, 1000], lanes, 1),
                    ([64, 225, 1000], tall, 1),
                    ([256, 33, 1000], tall, 1),
                    ([96, 1000, 1], lanes, 1),
                    ([97, 1000, 1], tall, 1),
                    ([129, 1000, 1], lanes, 1),
                ];
                expect_rules(&table, pattern, &rules);
            }
            // Parts of 512 or more, and up to eight workgroups.
            let high = if subgroups { 32 } else { 16 };
            let rules = [
                ([high, 32, 0], lanes, 1),
                ([high, 32, 1023], lanes, 1),
                ([high, 32, 1024], lanes, 2),
                ([high, 32, 1535], lanes, 2),
                ([high, 32, 1536], lanes, 3),
                ([high, 32, 4096], lanes, 8),
                ([high, 32, 1 << 20], lanes, 8),
                ([high + 1, 32, 1 << 20], lanes, 4),
                ([high, 64, 1 << 20], lanes, 4),
                ([2 * high, 64, 1 << 20], lanes, 2),
                ([2 * high, 64, 1023], lanes, 1),
                ([2 * high + 1, 64, 1 << 20], lanes, 1),
                ([high, 128, 1 << 20], lanes, 2),
                ([high, 129, 1 << 20], lanes, 1),
            ];
            for pattern in PATTERNS {
                expect_rules(&table, pattern, &rules);
            }
            let rules = [
                ([1, 32, 4096], SkinnyLanes, 8),
                ([1, 64, 4096], SkinnyLanes, 8),
                ([2, 65, 4096], SkinnyLanes, 4),
                ([4, 128, 4096], SkinnyLanes, 4),
                ([4, 513, 4096], SkinnyLanes, 1),
            ];
            expect_rules(&table, Pattern::Encode, &rules);
        }
    });
}

#[test]
fn the_rules_for_gpus() {
    once_per_adapter(|rig| {
        if is_cpu(rig) {
            println!("NOT RUN: not a GPU");
            return;
        }
        let table = StrategyTable::new(&rig.gpu.device);
        for (pattern, few) in [
            (Pattern::Encode, SkinnyGroup),
            (Pattern::Decode, SkinnyGroup),
            (Pattern::Backward, Tile32),
        ] {
            let rules = [
                ([0, 1, 1], few, 1),
                ([1, 1000, 511], few, 1),
                ([16, 1000, 1], few, 1),
                ([17, 1000, 1], Tile32, 1),
            ];
            expect_rules(&table, pattern, &rules);
        }
        let rules = [
            // 120, 128 and 240 tiles of 64×64, 256 of 128×128.
            ([512, 960, 1], Tile32, 1),
            ([512, 961, 1], Tile64, 1),
            ([512, 1024, 1], Tile64, 1),
            ([449, 961, 1], Tile64, 1),
            ([448, 1024, 1], Tile32, 1),
            ([2048, 1920, 1], Tile64, 1),
            ([2048, 1921, 1], Tile128, 1),
            ([1921, 2048, 1], Tile128, 1),
            ([1920, 2048, 1], Tile64, 1),
            // Up to 128 workgroups, and parts of 512 or more.
            ([32, 32, 1023], Tile32, 1),
            ([32, 32, 1024], Tile32, 2),
            ([32, 32, 1 << 20], Tile32, 128),
            ([64, 96, 1 << 20], Tile32, 21),
            ([512, 1024, 1 << 20], Tile64, 1),
        ];
        for pattern in PATTERNS {
            expect_rules(&table, pattern, &rules);
        }

        // What does not fit is passed over.
        let below = |bytes| {
            let low = rig.with_limits(|limits| limits.max_compute_workgroup_storage_size = bytes);
            StrategyTable::new(&low.gpu.device)
        };
        for pattern in PATTERNS {
            expect_rules(&below(16383), pattern, &[([4096, 4096, 1], Tile64, 1)]);
            expect_rules(&below(8191), pattern, &[([4096, 4096, 1], Tile32, 1)]);
            expect_rules(&below(4095), pattern, &[([4096, 4096, 1], LanesAlone, 1)]);
        }
        expect_rules(&below(4095), Pattern::Encode, &[([1, 4096, 1], LanesAlone, 1)]);
    });
}

#[test]
fn a_forced_choice_is_taken_for_all_that_it_can_compute() {
    once_per_adapter(|rig| {
        let rules = StrategyTable::new(&rig.gpu.device);
        for &strategy in rules.available() {
            for parts in [1, 3] {
                let choice = Choice { strategy, parts };
                let table = rules.clone().force(choice).unwrap();
                for pattern in PATTERNS {
                    for dimensions in [[1, 1, 1], [16, 40, 5000], [3000, 3000, 3000]] {
                        let product = shape(pattern, dimensions);
                        let by_rule = rules.choose(&product);
                        let want = if strategy.computes(pattern) { choice } else { by_rule };
                        assert_eq!(table.choose(&product), want, "{choice}: {product:?}");
                    }
                }
                // The last one counts.
                let last = Choice { strategy: LanesAlone, parts: 2 };
                let table = table.force(last).unwrap();
                assert_eq!(table.choose(&shape(Pattern::Decode, [9, 9, 9])), last);
            }
        }
    });
}

#[test]
fn an_exception_is_for_one_product_and_goes_before_all_else() {
    once_per_adapter(|rig| {
        let rules = StrategyTable::new(&rig.gpu.device);
        assert_eq!(rules.exceptions().count(), 0);
        let product = ProductShape::encode(50, 60, 70);
        let neighbours = [
            ProductShape { pattern: Pattern::Decode, ..product },
            ProductShape { pattern: Pattern::Backward, ..product },
            ProductShape { rows: 51, ..product },
            ProductShape { columns: 71, ..product },
            ProductShape { depth: 61, ..product },
        ];
        let forced = rules.clone().force(Choice::whole(Tile32)).unwrap();
        for before in [rules, forced] {
            let mut table = before.clone();
            for choice in [Choice { strategy: LanesAlone, parts: 5 }, Choice::whole(Tile64)] {
                table.set(product, choice).unwrap();
                assert_eq!(table.choose(&product), choice);
                assert_eq!(table.exceptions().collect::<Vec<_>>(), [(&product, &choice)]);
                for neighbour in &neighbours {
                    assert_eq!(table.choose(neighbour), before.choose(neighbour), "{neighbour:?}");
                }
            }
            assert_ne!(table, before);
            // Exceptions outlast a forced choice.
            let table = table.force(Choice::whole(LanesAlone)).unwrap();
            assert_eq!(table.choose(&product), Choice::whole(Tile64));
        }
    });
}

#[test]
fn what_cannot_be_chosen_is_refused() {
    once_per_adapter(|rig| {
        let bare = rig.with_device(wgpu::Features::empty(), rig.gpu.adapter.limits());
        let rules = StrategyTable::new(&bare.gpu.device);
        let product = ProductShape::backward(3, 4, 5);
        let both = |choice: Choice| {
            let mut table = rules.clone();
            let set = table.set(product, choice);
            assert_eq!(table, rules, "{choice}");
            [set, rules.clone().force(choice).map(drop)]
        };
        for strategy in [LanesSubgroup, LanesTall, SkinnySubgroup] {
            let reason = "the device lacks the limits or subgroups for this strategy, or compiles it too slowly";
            let want = Error::Incompatible { what: strategy.name(), reason };
            for result in both(Choice::whole(strategy)) {
                assert_eq!(result, Err(want.clone()));
            }
        }
        let want = Error::Setting { name: "parts", expected: "at least 1", given: 0.0 };
        for result in both(Choice { strategy: LanesAlone, parts: 0 }) {
            assert_eq!(result, Err(want.clone()));
        }

        let rules = StrategyTable::new(&rig.gpu.device);
        for &strategy in rules.available() {
            for pattern in PATTERNS {
                let product = shape(pattern, [3, 4, 5]);
                let mut table = rules.clone();
                let result = table.set(product, Choice::whole(strategy));
                if strategy.computes(pattern) {
                    assert_eq!(result, Ok(()), "{strategy}, {pattern:?}");
                    continue;
                }
                let reason = "the strategy does not compute this kind of product";
                let want = Error::Incompatible { what: strategy.name(), reason };
                assert_eq!(result, Err(want), "{strategy}, {pattern:?}");
                assert_eq!(table, rules, "{strategy}, {pattern:?}");
            }
        }
    });
}

#[test]
fn candidates_are_what_the_rules_say_and_all_else_that_can_be_set() {
    once_per_adapter(|rig| {
        let rules = StrategyTable::new(&rig.gpu.device);
        let is_cpu = rig.gpu.adapter.get_info().device_type == wgpu::DeviceType::Cpu;
        let for_cpus = [LanesSubgroup, LanesTall, LanesAlone, SkinnyLanes, SkinnySubgroup];
        for pattern in PATTERNS {
            for dimensions in [[1, 1, 1], [4, 40, 5000], [16, 40, 600], [32, 32, 4096], [300; 3]] {
                let product = shape(pattern, dimensions);
                let candidates = rules.candidates(&product);
                assert_eq!(candidates.first(), Some(&rules.choose(&product)), "{product:?}");
                let mut table = rules.clone();
                for (index, choice) in candidates.iter().enumerate() {
                    assert!(!candidates[..index].contains(choice), "{product:?}: {choice} twice");
                    table.set(product, *choice).expect("a candidate");
                }
                for strategy in rules.available() {
                    let whole = candidates.contains(&Choice::whole(*strategy));
                    let of_kind = for_cpus.contains(strategy) == is_cpu;
                    let wanted = of_kind && strategy.computes(pattern);
                    assert_eq!(whole, wanted, "{product:?}: {strategy}");
                }
            }
        }
        // One tile and a long reduction: in parts as well, and for each of the tiles.
        let candidates = rules.candidates(&shape(Pattern::Backward, [16, 20, 4096]));
        let split = candidates.iter().filter(|choice| choice.parts > 1).count();
        assert_eq!(split * 2, candidates.len(), "{candidates:?}");
        assert!(candidates.iter().all(|choice| [1, 8].contains(&choice.parts)), "{candidates:?}");
        // They are the rules', whatever is forced.
        let forced = rules.clone().force(Choice { strategy: LanesAlone, parts: 7 }).unwrap();
        let product = shape(Pattern::Decode, [3, 3, 3]);
        assert_eq!(forced.candidates(&product), rules.candidates(&product));
    });
}

#[test]
fn kernels_compute_by_the_table_that_they_are_given() {
    once_per_adapter(|rig| {
        let device = &rig.gpu.device;
        let rules = StrategyTable::new(device);
        let kernels = Kernels::new(device, KernelOptions::default()).unwrap();
        assert_eq!(kernels.strategies(), &rules);
        assert!(kernels.options().strategies.is_none());

        let mut table = rules.force(Choice::whole(LanesAlone)).unwrap();
        let exception = ProductShape::encode(3, 40, 5);
        table.set(exception, Choice { strategy: Tile32, parts: 3 }).unwrap();
        let options = KernelOptions::default().with_strategies(table.clone());
        let kernels = Kernels::new(device, options).unwrap();
        assert_eq!(kernels.strategies(), &table);
        assert_eq!(kernels.choice(&exception), Choice { strategy: Tile32, parts: 3 });
        let other = ProductShape::encode(4, 40, 5);
        assert_eq!(kernels.choice(&other), Choice::whole(LanesAlone));
        // The second dispatch adds the parts up.
        for (batch, dispatches) in [(3, 2), (4, 1)] {
            let zeros = |rows, columns| kernels.zeros("m", rows, columns).unwrap();
            let weight = Weight::new(&kernels, zeros(5, 40)).unwrap();
            let (x, h) = (zeros(batch, 40), zeros(batch, 5));
            let commands = kernels.encode(&weight, &Linear::new(&x, &h)).unwrap();
            assert_eq!(commands.len(), dispatches, "a batch of {batch}");
        }
    });
}

/// `scripts/test` asks this one whether there is an adapter to run its strategies on.
#[test]
fn what_is_forced_from_outside_is_what_runs() {
    let names: Vec<_> = Strategy::ALL.map(Strategy::name).to_vec();
    let script = include_str!("../scripts/test");
    for name in names {
        assert!(script.contains(name), "scripts/test does not name {name}");
    }
    once_per_adapter(|rig| {
        let Some(forced) = forced_choice() else {
            assert_eq!(rig.kernels.strategies(), &StrategyTable::new(&rig.gpu.device));
            return;
        };
        let computed = PATTERNS.into_iter().filter(|pattern| forced.strategy.computes(*pattern));
        for pattern in computed {
            assert_eq!(rig.kernels.choice(&shape(pattern, [9, 9, 9])), forced, "{pattern:?}");
        }
    });
}

// What they compute.

/// Kernels that compute by this choice whatever it can compute. They are kept for all tests, because
/// a software driver takes its time to compile them.
fn forced(rig: &Rig, choice: Choice) -> Rig {
    static KNOWN: Mutex<Vec<(String, Kernels)>> = Mutex::new(Vec::new());
    let name = format!("{}, {choice}", rig.name);
    let mut known = KNOWN.lock().expect("no test has failed with the lock");
    let kernels = match known.iter().find(|(other, _)| *other == name) {
        Some((_, kernels)) => kernels.clone(),
        None => {
            let table = StrategyTable::new(&rig.gpu.device).force(choice).expect("available");
            let kernels = rig.with_strategies(table).kernels;
            known.push((name.clone(), kernels.clone()));
            kernels
        }
    };
    Rig { name, gpu: rig.gpu.clone(), kernels }
}

/// Hands every adapter that can run the strategy to `check`, with kernels that use it, whole and in
/// three parts.
fn with_strategy(strategy: Strategy, check: impl Fn(&Rig)) {
    on_every_adapter(|rig| {
        if !StrategyTable::new(&rig.gpu.device).available().contains(&strategy) {
            println!("NOT RUN: {} cannot run {strategy}", rig.name);
            return;
        }
        for parts in [1, 3] {
            check(&forced(rig, Choice { strategy, parts }));
        }
    });
}

/// Rows, depth and columns at and around the edges of a strategy's tiles and steps, and where the
/// operands lie: the odd ones are read one value at a time, the even ones four. Of three parts, the
/// reductions make one, two and three.
fn shapes_around(strategy: Strategy) -> Vec<([u32; 3], Place)> {
    let share = Share::of(strategy.name());
    let (rows, step, columns) = (share.most_rows(), share.step, share.columns);
    let odd = [
        [1, 1, 1],
        [rows - 1, step - 1, columns + 1],
        [rows, step, columns],
        [rows + 1, step + 1, columns - 1],
        [rows - 1, 2 * step + 1, columns],
        [rows + 1, 3 * step - 1, columns + 1],
        [2 * rows + 1, 3 * step + 1, 2 * columns + 3],
    ];
    let even = [
        [1, 4, 4],
        [rows, step, columns],
        [rows + 1, 2 * step + 4, columns + 4],
        [2 * rows + 1, 3 * step, 2 * columns - 4],
    ];
    let odd = odd.into_iter().map(|shape| (shape, Place::Odd));
    odd.chain(even.into_iter().map(|shape| (shape, Place::Even))).collect()
}

/// A reduction that ends within a block of four although the matrices are read four values at a time:
/// over a batch, which is in rows.
fn ragged_batch(strategy: Strategy) -> ([u32; 3], Place) {
    let share = Share::of(strategy.name());
    ([share.most_rows() + 4, 3 * share.step + 1, share.columns + 4], Place::Even)
}

const PRODUCTS: [Product; 4] =
    [Product::Encode, Product::Decode, Product::CodeGradient, Product::InputGradient];

fn products_of(strategy: Strategy) -> impl Iterator<Item = Product> {
    PRODUCTS.into_iter().filter(move |product| strategy.computes(product.pattern()))
}

/// Of whole numbers, so that a single product too few or too many shows.
#[test]
fn every_strategy_computes_every_product_at_the_edges_of_its_tiles_and_steps() {
    for strategy in Strategy::ALL {
        for (shape, place) in shapes_around(strategy) {
            for product in products_of(strategy) {
                let problem = Problem::exact(Case::full(product, shape));
                with_strategy(strategy, |rig| problem.check(rig, [place; 5]));
            }
        }
    }
}

#[test]
fn every_strategy_computes_the_weights_gradient_at_the_edges_of_its_tiles_and_steps() {
    for strategy in Strategy::ALL.into_iter().filter(|one| one.computes(Pattern::Backward)) {
        let shapes = shapes_around(strategy).into_iter().chain([ragged_batch(strategy)]);
        for ([hidden, batch, inputs], place) in shapes {
            let [code, code_delta] = [1, 2].map(|seed| whole_numbers(batch, hidden, seed));
            let [input, output_delta] = [3, 4].map(|seed| whole_numbers(batch, inputs, seed));
            let old = whole_numbers(hidden, inputs, 5);
            let decoder = code.transposed().times(&output_delta);
            let encoder = code_delta.transposed().times(&input);
            let both = decoder.zip(&encoder, |a, b| a + b);
            with_strategy(strategy, |rig| {
                let [code, code_delta, input, output_delta] =
                    [&code, &code_delta, &input, &output_delta].map(|m| rig.put(m, place));
                for (contributions, want) in [
                    (Contributions::Both, &both),
                    (Contributions::Decoder, &decoder),
                    (Contributions::Encoder, &encoder),
                ] {
                    for accumulate in [Accumulate::Overwrite, Accumulate::Add] {
                        let (gradient, want) = match accumulate {
                            Accumulate::Overwrite => {
                                (rig.poisoned(hidden, inputs, place), want.clone())
                            }
                            Accumulate::Add => (rig.put(&old, place), want.zip(&old, |a, b| a + b)),
                        };
                        let commands = rig.kernels.backward(&Backward {
                            code: &code,
                            output_delta: &output_delta,
                            code_delta: &code_delta,
                            input: &input,
                            gradient: &gradient,
                            contributions,
                            accumulate,
                        });
                        rig.run(&commands.unwrap());
                        let what = format!(
                            "backward {batch}x{hidden}x{inputs}, {place:?}, {contributions:?}, \
                             {accumulate:?}, {}",
                            rig.name
                        );
                        let exactly = Dense::zeros(hidden, inputs);
                        expect_close(&what, &rig.get(&gradient), &want, &exactly);
                        rig.expect_surroundings_untouched(&what, &gradient);
                    }
                }
            });
        }
    }
}

/// ⟨encode(x), z⟩ = ⟨x, decode(z)⟩, with no reference for either; of whole numbers, exactly. What the
/// strategy does not compute is computed as the rules say.
#[test]
fn encode_and_decode_are_adjoint_by_every_strategy() {
    for strategy in Strategy::ALL {
        for ([batch, inputs, hidden], place) in shapes_around(strategy) {
            let x = whole_numbers(batch, inputs, 1);
            let w = whole_numbers(hidden, inputs, 2);
            let z = whole_numbers(batch, hidden, 3);
            with_strategy(strategy, |rig| {
                let weight = Weight::new(&rig.kernels, rig.put(&w, place)).unwrap();
                let [x_there, z_there] = [&x, &z].map(|values| rig.put(values, place));
                let code = rig.poisoned(batch, hidden, place);
                let output = rig.poisoned(batch, inputs, place);
                let encode = rig.kernels.encode(&weight, &Linear::new(&x_there, &code));
                let decode = rig.kernels.decode(&weight, &Linear::new(&z_there, &output));
                rig.run(&encode.unwrap().then(decode.unwrap()));
                let inner = |got: Vec<f32>, with: &Dense| -> f64 {
                    std::iter::zip(got, &with.values).map(|(a, b)| f64::from(a) * b).sum()
                };
                let [left, right] = [inner(rig.get(&code), &z), inner(rig.get(&output), &x)];
                assert_eq!(left, right, "{batch}x{inputs}x{hidden} {place:?}, {}", rig.name);
            });
        }
    }
}

/// What follows a product is in a file of its own, so one strategy stands for all; the test after
/// this one has the others.
#[test]
fn parts_are_followed_by_every_epilogue() {
    for activation in Activation::ALL {
        for [addend, preactivation] in [[true, true], [true, false], [false, true], [false, false]]
        {
            for (shape, place) in [([5, 21, 7], Place::Odd), ([5, 24, 8], Place::Even)] {
                for product in PRODUCTS {
                    let case =
                        Case { activation, addend, preactivation, ..Case::bare(product, shape) };
                    let problem = Problem::new(case);
                    on_every_adapter(|rig| {
                        let rig = forced(rig, Choice { strategy: LanesAlone, parts: 3 });
                        problem.check(&rig, [place; 5]);
                    });
                }
            }
        }
    }
}

#[test]
fn every_strategy_is_followed_by_an_activation_and_what_is_stored_beside() {
    for strategy in Strategy::ALL {
        let step = Share::of(strategy.name()).step;
        for (shape, place) in
            [([3, 2 * step + 1, 7], Place::Odd), ([3, 2 * step + 4, 8], Place::Even)]
        {
            for product in products_of(strategy) {
                let case = Case { activation: Activation::Sigmoid, ..Case::full(product, shape) };
                let problem = Problem::new(case);
                with_strategy(strategy, |rig| problem.check(rig, [place; 5]));
            }
        }
    }
}

#[test]
fn without_a_reduction_one_dispatch_writes_what_remains() {
    for strategy in Strategy::ALL {
        for product in products_of(strategy) {
            let problem = Problem::exact(Case::full(product, [3, 0, 9]));
            with_strategy(strategy, |rig| {
                for place in [Place::Odd, Place::Even] {
                    let operands = problem.place(rig, [place; 5]);
                    let commands = operands.commands(rig, product);
                    assert_eq!(commands.len(), 1, "{product:?}, {}", rig.name);
                    rig.run(&commands);
                    problem.expect(rig, &format!("{product:?}, {}", rig.name), &operands);
                }
            });
        }
    }
}

/// They take the fewest of a few numbers of rows that suffice, or several times the most.
#[test]
fn skinny_strategies_compute_any_number_of_rows() {
    for strategy in [SkinnyGroup, SkinnyLanes, SkinnySubgroup] {
        let Share { step, columns, .. } = *Share::of(strategy.name());
        for rows in 1..=17 {
            for (shape, place) in [
                ([rows, 2 * step + 2, columns + 1], Place::Odd),
                ([rows, 2 * step + 4, columns + 4], Place::Even),
            ] {
                for product in products_of(strategy) {
                    let problem = Problem::exact(Case::full(product, shape));
                    with_strategy(strategy, |rig| problem.check(rig, [place; 5]));
                }
            }
        }
    }
}

/// Seven tiles on three by three workgroups: two have nothing to do, and must not do it. With three
/// parts they are 21, and four of five by five are idle.
#[test]
fn workgroups_without_a_tile_do_nothing() {
    for strategy in Strategy::ALL {
        let share = Share::of(strategy.name());
        let depth = 2 * share.step + 1;
        for product in products_of(strategy) {
            for shape in [[1, depth, 6 * share.columns + 1], [6 * share.most_rows() + 1, depth, 1]]
            {
                let problem = Problem::exact(Case::full(product, shape));
                once_per_adapter(|rig| {
                    if !StrategyTable::new(&rig.gpu.device).available().contains(&strategy) {
                        println!("NOT RUN: {} cannot run {strategy}", rig.name);
                        return;
                    }
                    for (parts, most) in [(1, 3), (3, 5)] {
                        // This one has parts of a length of its own, of this depth three.
                        if strategy == SkinnySubgroup && parts == 1 {
                            continue;
                        }
                        let narrow = rig.with_limits(|limits| {
                            limits.max_compute_workgroups_per_dimension = most;
                        });
                        let choice = Choice { strategy, parts };
                        let table = StrategyTable::new(&narrow.gpu.device).force(choice).unwrap();
                        let rig = narrow.with_strategies(table);
                        problem.check(&rig, [Place::Odd; 5]);
                    }
                });
            }
        }
    }
}

/// Tiles are numbered in bands of eight rows of tiles, of four by the lanes' strategies, column by column,
/// every other band backwards: here whole bands and one of two rows, three columns wide. (The gradients of the
/// two products take the same tiles.)
#[test]
fn tiles_of_a_whole_band_and_of_a_part_of_one_are_all_computed() {
    for strategy in Strategy::ALL {
        let share = Share::of(strategy.name());
        let shape = [9 * share.most_rows() + 1, 5, 2 * share.columns + 1];
        for product in products_of(strategy).take(2) {
            let problem = Problem::exact(Case::bare(product, shape));
            with_strategy(strategy, |rig| problem.check(rig, [Place::Odd; 5]));
        }
    }
}

#[test]
fn exceptions_compute_their_products_in_their_parts() {
    once_per_adapter(|rig| {
        let mut table = StrategyTable::new(&rig.gpu.device);
        let available = table.available().to_vec();
        let mut problems = Vec::new();
        for (index, strategy) in (0..).zip(available) {
            for parts in [1, 2, 3] {
                let step = Share::of(strategy.name()).step;
                // Each has a shape of its own, so the table tells them apart.
                let shape @ [rows, depth, columns] = [10 + index, parts * step, 10 + parts];
                let product = match strategy {
                    SkinnySubgroup => Product::Decode,
                    _ => Product::Encode,
                };
                let choice = Choice { strategy, parts };
                table.set(self::shape(product.pattern(), [rows, columns, depth]), choice).unwrap();
                problems.push((choice, product, Problem::exact(Case::full(product, shape))));
            }
        }
        let rig = rig.with_strategies(table);
        for (choice, product, problem) in problems {
            let operands = problem.place(&rig, [Place::Odd; 5]);
            let commands = operands.commands(&rig, product);
            let is_split = choice.parts > 1 || choice.strategy == SkinnySubgroup;
            assert_eq!(commands.len(), 1 + usize::from(is_split), "{choice}");
            rig.run(&commands);
            problem.expect(&rig, &choice.to_string(), &operands);
        }
    });
}

/// The same shapes and the same table: the same bits, by the same commands, new commands and new
/// kernels.
#[test]
fn every_strategy_gives_the_same_bits_each_time() {
    once_per_adapter(|rig| {
        for &strategy in StrategyTable::new(&rig.gpu.device).available() {
            let share = Share::of(strategy.name());
            let shape @ [batch, _, _] = [share.most_rows() + 3, 333, share.columns + 5];
            let [depth, columns] = [shape[1], shape[2]];
            for parts in [1, 3] {
                let table = StrategyTable::new(&rig.gpu.device);
                let table = table.force(Choice { strategy, parts }).unwrap();
                let run = |rig: &Rig| {
                    let put =
                        |rows, columns, seed| rig.put(&random(rows, columns, seed), Place::Odd);
                    let weight = Weight::new(&rig.kernels, put(depth, columns, 1)).unwrap();
                    let [h, y] = [put(batch, depth, 2), rig.poisoned(batch, columns, Place::Odd)];
                    let [x, z] = [put(batch, columns, 3), rig.poisoned(batch, depth, Place::Odd)];
                    let w = rig.poisoned(depth, columns, Place::Odd);
                    let kernels = &rig.kernels;
                    let commands = kernels
                        .decode(&weight, &Linear::new(&h, &y))
                        .unwrap()
                        .then(kernels.encode(&weight, &Linear::new(&x, &z)).unwrap())
                        .then(
                            kernels
                                .backward(&Backward {
                                    code: &h,
                                    output_delta: &x,
                                    code_delta: &z,
                                    input: &y,
                                    gradient: &w,
                                    contributions: Contributions::Both,
                                    accumulate: Accumulate::Overwrite,
                                })
                                .unwrap(),
                        );
                    let bits = || [&y, &z, &w].map(|matrix| rig.bits(matrix)).concat();
                    rig.run(&commands);
                    let first = bits();
                    rig.run(&commands);
                    expect_same_bits("the same commands", &bits(), &first);
                    first
                };
                let rig_of_table = rig.with_strategies(table.clone());
                let first = run(&rig_of_table);
                let what = format!("{strategy} / {parts}");
                expect_same_bits(&format!("{what}, new commands"), &run(&rig_of_table), &first);
                let anew = rig.with_strategies(table);
                expect_same_bits(&format!("{what}, new kernels"), &run(&anew), &first);
            }
        }
    });
}
