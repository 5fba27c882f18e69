//! `noise.wgsl`: Philox and masking to the bit, Gaussian noise against f64 and by its statistics, steps
//! and seeds.

mod common;

use common::reference::Dense;
use common::{
    Place, Rig, expect_close, expect_same_bits, on_every_adapter, once_per_adapter, random,
};
use tied_linear::kernels::NoisyCopy;
use tied_linear::{Commands, Error, Matrix, Noise, NoiseState};

/// Philox 4x32-10, with 64-bit products.
fn philox(mut counter: [u32; 4], seed: u64) -> [u32; 4] {
    let mut key = [seed as u32, (seed >> 32) as u32];
    for _ in 0..10 {
        let product = |factor: u64, word: u32| factor * u64::from(word);
        let (a, b) = (product(0xd251_1f53, counter[0]), product(0xcd9e_8d57, counter[2]));
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
    }
    counter
}

/// The upper 24 bits of an element's block, and which of its words is the element's.
fn words(seed: u64, step: u32, columns: u32, row: u32, column: u32) -> ([u32; 4], usize) {
    let index = row * columns.div_ceil(4) + column / 4;
    (philox([index, 0, step, 0], seed).map(|word| word >> 8), (column % 4) as usize)
}

fn masked(seed: u64, step: u32, probability: f64, input: &Dense) -> Vec<u32> {
    let threshold = (probability * 16_777_216.0).round() as u32;
    let value = |row, column| {
        let (n, own) = words(seed, step, input.columns, row, column);
        if n[own] < threshold { 0.0 } else { input.at(row, column) }
    };
    let want = Dense::new(input.rows, input.columns, value);
    want.values.iter().map(|value| (*value as f32).to_bits()).collect()
}

/// The radius and the value of an element's normal deviate.
fn normal(seed: u64, step: u32, columns: u32, row: u32, column: u32) -> [f64; 2] {
    let (n, own) = words(seed, step, columns, row, column);
    let [a, b] = [n[own / 2 * 2], n[own / 2 * 2 + 1]].map(f64::from);
    let radius = (-2.0 * ((a + 1.0) / 16_777_216.0).ln()).sqrt();
    let angle = std::f64::consts::TAU * (b / 16_777_216.0 - 0.5);
    [radius, radius * if own % 2 == 0 { angle.cos() } else { angle.sin() }]
}

fn commands(rig: &Rig, noise: Noise, state: &NoiseState, from: &Matrix, to: &Matrix) -> Commands {
    rig.kernels.noise(&NoisyCopy { input: from, noise, state, output: to }).unwrap()
}

/// A state at this step, for this shape.
fn state(rig: &Rig, [rows, columns]: [u32; 2], seed: u64, step: u32) -> NoiseState {
    let state = NoiseState::new(&rig.kernels, rows, columns, seed).unwrap();
    state.set_step(&rig.gpu.device, &rig.gpu.queue, step).unwrap();
    state
}

/// The steps that the workgroups have counted.
fn steps(rig: &Rig, state: &NoiseState) -> Vec<u32> {
    rig.bits(state.steps())
}

const SHAPES: [[u32; 2]; 7] = [[1, 1], [3, 5], [7, 4], [64, 68], [1, 1030], [1027, 1], [130, 66]];

/// The test vectors of Random123, the generator's own distribution.
#[test]
fn the_reference_gives_the_published_test_vectors() {
    assert_eq!(philox([0; 4], 0), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
    let all = u32::MAX;
    assert_eq!(philox([all; 4], u64::MAX), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
    let pi = [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344];
    let want = [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1];
    assert_eq!(philox(pi, 0x299f_31d0_a409_3822), want);
}

#[test]
fn masking_is_that_of_the_reference_in_every_place() {
    on_every_adapter(|rig| {
        let seed = 0x0123_4567_89ab_cdef;
        for (index, shape) in (0..).zip(SHAPES) {
            for (input_place, output_place) in
                Place::ALL.into_iter().flat_map(|a| Place::ALL.map(|b| (a, b)))
            {
                let what = format!("{shape:?}, {input_place:?} to {output_place:?}");
                let [rows, columns] = shape;
                let x = random(rows, columns, 1);
                let (probability, step) = (0.3, 0xffff_fff0 + index);
                let state = state(rig, shape, seed, step);
                let output = rig.poisoned(rows, columns, output_place);
                let noise = Noise::Masking { probability };
                rig.run(&commands(rig, noise, &state, &rig.put(&x, input_place), &output));
                let want = masked(seed, step, probability, &x);
                expect_same_bits(&what, &rig.bits(&output), &want);
                rig.expect_surroundings_untouched(&what, &output);
                assert!(steps(rig, &state).iter().all(|now| *now == step + 1), "{what}");
            }
        }
    });
}

/// An element is masked where its 24 bits are below the threshold, not where they are equal to it.
#[test]
fn the_threshold_is_exact_to_the_bit() {
    on_every_adapter(|rig| {
        let x = Dense::new(1, 8, |_, _| 1.0);
        let (n, own) = words(5, 9, 8, 0, 6);
        for (threshold, want) in [(n[own], 1.0), (n[own] + 1, 0.0)] {
            let noise = Noise::Masking { probability: f64::from(threshold) / 16_777_216.0 };
            let output = rig.poisoned(1, 8, Place::Tight);
            let state = state(rig, [1, 8], 5, 9);
            rig.run(&commands(rig, noise, &state, &rig.put(&x, Place::Tight), &output));
            assert_eq!(rig.get(&output)[6], want, "{threshold}");
        }
    });
}

#[test]
fn probabilities_of_zero_and_one_leave_all_and_nothing() {
    on_every_adapter(|rig| {
        let values = [1.0, f32::NAN, f32::INFINITY, -2.0, 0.5, f32::NEG_INFINITY, 3.0];
        let input = rig.put_f32(1, 7, &values, Place::Odd);
        for (probability, want) in [(0.0, rig.bits(&input)), (1.0, vec![0; 7])] {
            let output = rig.poisoned(1, 7, Place::Odd);
            let state = state(rig, [1, 7], 3, 0);
            rig.run(&commands(rig, Noise::Masking { probability }, &state, &input, &output));
            expect_same_bits(&format!("{probability}"), &rig.bits(&output), &want);
        }
    });
}

fn check_gaussian(rig: &Rig, shape: [u32; 2], place: Place, seed: u64, step: u32) {
    let what = format!("{shape:?} {place:?}, seed {seed}, step {step}");
    let [rows, columns] = shape;
    let (x, deviation) = (random(rows, columns, 2), 0.75);
    let output = rig.poisoned(rows, columns, place);
    let state = state(rig, shape, seed, step);
    rig.run(&commands(rig, Noise::Gaussian { deviation }, &state, &rig.put(&x, place), &output));
    let of = |which: usize| {
        Dense::new(rows, columns, |row, column| normal(seed, step, columns, row, column)[which])
    };
    let want = x.zip(&of(1), |x, z| x + deviation * z);
    // WebGPU promises sines and cosines within 2⁻¹¹, and ln within 2⁻²¹ near 1 (of which −2·ln u, and
    // the root's error, are at most 2⁻¹⁰ there).
    let tolerance = of(0).map(|radius| deviation * (radius + 2.0) * 2f64.powi(-11) + 1e-6);
    expect_close(&what, &rig.get(&output), &want, &tolerance);
    rig.expect_surroundings_untouched(&what, &output);
}

#[test]
fn gaussian_noise_is_that_of_the_reference() {
    on_every_adapter(|rig| {
        for shape in SHAPES {
            for place in Place::ALL {
                check_gaussian(rig, shape, place, 11, 4);
            }
        }
    });
}

/// Where a word's upper 24 bits are all ones, ln u = 0 and the root is of zero; where they are all zeros,
/// u is the smallest there is. Both are found with seed 7 at these steps.
#[test]
fn the_ends_of_the_logarithm_are_finite_and_right() {
    let (last, first) = (50_328, 169_043);
    assert_eq!(words(7, last, 256, 0, 16).0[0], 0xff_ffff);
    assert_eq!(words(7, first, 256, 0, 40).0[0], 0);
    on_every_adapter(|rig| {
        for step in [last, first] {
            check_gaussian(rig, [1, 256], Place::Tight, 7, step);
            check_gaussian(rig, [1, 256], Place::Odd, 7, step);
        }
    });
}

/// Samples of the noise alone, of a few steps one after the other.
fn samples(rig: &Rig, noise: Noise, input: f32, shape: [u32; 2], runs: usize) -> Vec<Vec<f32>> {
    let [rows, columns] = shape;
    let from = vec![input; rows as usize * columns as usize];
    let from = rig.put_f32(rows, columns, &from, Place::Tight);
    let to = rig.poisoned(rows, columns, Place::Tight);
    let state = state(rig, shape, 99, 0);
    let commands = commands(rig, noise, &state, &from, &to);
    let run = |_| {
        rig.run(&commands);
        rig.get(&to)
    };
    (0..runs).map(run).collect()
}

fn correlation(a: impl Iterator<Item = f32>, b: impl Iterator<Item = f32>) -> f64 {
    let products: Vec<_> = a.zip(b).map(|(a, b)| f64::from(a) * f64::from(b)).collect();
    products.iter().sum::<f64>() / products.len() as f64
}

/// Bounds of five standard errors, which a right generator exceeds once in two million.
#[test]
fn gaussian_noise_is_normally_distributed_and_uncorrelated() {
    once_per_adapter(|rig| {
        const COUNT: usize = 400 * 501;
        let runs = samples(rig, Noise::Gaussian { deviation: 1.0 }, 0.0, [400, 501], 2);
        let root = (COUNT as f64).sqrt();
        for z in &runs {
            let moment = |power: i32| {
                z.iter().map(|z| f64::from(*z).powi(power)).sum::<f64>() / COUNT as f64
            };
            // Variances of the moments' estimates: 1, 2, 15 and 96.
            assert!(moment(1).abs() < 5.0 / root, "mean {}", moment(1));
            assert!((moment(2) - 1.0).abs() < 5.0 * 2f64.sqrt() / root, "variance {}", moment(2));
            assert!(moment(3).abs() < 5.0 * 15f64.sqrt() / root, "third {}", moment(3));
            assert!((moment(4) - 3.0).abs() < 5.0 * 96f64.sqrt() / root, "fourth {}", moment(4));
            // Kolmogorov and Smirnov: beyond 2.5/√n once in 130,000.
            let mut sorted = z.clone();
            sorted.sort_by(f32::total_cmp);
            let distance = sorted.iter().enumerate().map(|(index, z)| {
                let below = 0.5 * libm::erfc(-f64::from(*z) / std::f64::consts::SQRT_2);
                (below - (index as f64 + 0.5) / COUNT as f64).abs()
            });
            let distance = distance.fold(0.0, f64::max);
            assert!(distance < 2.5 / root, "distance {distance}");
            for lag in [1, 2, 3, 4, 501] {
                let r = correlation(z.iter().copied(), z.iter().skip(lag).copied());
                assert!(r.abs() < 5.0 / ((COUNT - lag) as f64).sqrt(), "lag {lag}: {r}");
            }
        }
        let r = correlation(runs[0].iter().copied(), runs[1].iter().copied());
        assert!(r.abs() < 5.0 / root, "two steps: {r}");
    });
}

#[test]
fn masking_takes_its_share_of_the_elements() {
    once_per_adapter(|rig| {
        for probability in [0.01, 0.25, 0.9] {
            let noise = Noise::Masking { probability };
            let runs = samples(rig, noise, 1.0, [400, 501], 1);
            let count = runs[0].len() as f64;
            let share = runs[0].iter().filter(|value| **value == 0.0).count() as f64 / count;
            let bound = 5.0 * (probability * (1.0 - probability) / count).sqrt();
            assert!((share - probability).abs() < bound, "{probability}: {share}");
        }
    });
}

/// Recorded commands take the next step each time, in one submission too; seed and step give it again.
#[test]
fn each_run_takes_a_step_that_can_be_had_again() {
    on_every_adapter(|rig| {
        let (shape, seed) = ([40, 67], 21);
        let x = random(40, 67, 3);
        let input = rig.put(&x, Place::Odd);
        let output = rig.poisoned(40, 67, Place::Odd);
        let noise = Noise::Masking { probability: 0.5 };
        let state = state(rig, shape, seed, u32::MAX - 1);
        let once = commands(rig, noise, &state, &input, &output);
        let expect = |what: &str, step| {
            expect_same_bits(what, &rig.bits(&output), &masked(seed, step, 0.5, &x));
        };
        rig.run(&once);
        expect("the first", u32::MAX - 1);
        rig.run(&once);
        expect("the last before zero", u32::MAX);
        rig.run(&once.clone().then(once.clone()).then(once.clone()));
        expect("three at once", 2);
        state.set_step(&rig.gpu.device, &rig.gpu.queue, 1).unwrap();
        rig.run(&once);
        expect("again", 1);
        assert_ne!(
            masked(seed, 1, 0.5, &x),
            masked(seed + (1 << 32), 1, 0.5, &x),
            "the seed's upper half"
        );
    });
}

/// A smaller matrix counts for all workgroups, so that the next larger one goes on from there.
#[test]
fn matrices_of_several_sizes_share_a_state() {
    on_every_adapter(|rig| {
        let narrow = rig.with_limits(|limits| limits.max_compute_workgroups_per_dimension = 3);
        for rig in [rig, &narrow] {
            let state = state(rig, [2000, 4], 8, 0);
            let sizes = [[2000, 4], [3, 5], [0, 7], [5, 0], [1999, 4]];
            for (step, [rows, columns]) in (0..).zip(sizes) {
                let x = random(rows, columns, 6);
                let output = rig.poisoned(rows, columns, Place::Odd);
                let noise = Noise::Masking { probability: 0.5 };
                rig.run(&commands(rig, noise, &state, &rig.put(&x, Place::Odd), &output));
                let what = format!("{rows}x{columns}");
                expect_same_bits(&what, &rig.bits(&output), &masked(8, step, 0.5, &x));
                rig.expect_surroundings_untouched(&what, &output);
                assert_eq!(steps(rig, &state), [step + 1; 8], "{what}");
            }
        }
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    once_per_adapter(|rig| {
        let state = state(rig, [4, 1024], 1, 0);
        let of = |rows, columns| rig.kernels.zeros("test", rows, columns).unwrap();
        let masking = |probability| Noise::Masking { probability };
        let gaussian = |deviation| Noise::Gaussian { deviation };
        let call = |noise, from: &Matrix, to: &Matrix| {
            let copy = NoisyCopy { input: from, noise, state: &state, output: to };
            rig.kernels.noise(&copy).map(|commands| commands.len())
        };
        let (x, y) = (of(4, 1024), of(4, 1024));
        assert_eq!(call(masking(0.5), &x, &y), Ok(1));
        let larger = call(masking(0.5), &of(5, 1024), &of(5, 1024));
        assert!(matches!(larger, Err(Error::Incompatible { what: "state", .. })), "{larger:?}");
        let shape = call(masking(0.5), &x, &of(4, 1023));
        let want = Error::Shape { operand: "output", expected: [4, 1024], given: [4, 1023] };
        assert_eq!(shape, Err(want));
        for wrong in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            let result = call(masking(wrong), &x, &y);
            let named = matches!(result, Err(Error::Setting { name: "probability", .. }));
            assert!(named, "{wrong}: {result:?}");
        }
        for wrong in [-0.1, 1e39, f64::NAN, f64::INFINITY] {
            let result = call(gaussian(wrong), &x, &y);
            let named = matches!(result, Err(Error::Setting { name: "deviation", .. }));
            assert!(named, "{wrong}: {result:?}");
        }
        assert_eq!(steps(rig, &state), [0; 4], "a refused call took a step");
    });
}
