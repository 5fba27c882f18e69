//! `Init`: bounds, spread and repeatability of initial values. No GPU.

use tied_linear::init::{Init, Side};

const HIDDEN: u32 = 48;
const INPUTS: u32 = 192;
const COUNT: usize = 200_000;

/// Kinds and bounds.
fn uniform_kinds() -> [(Init, f64); 5] {
    let (hidden, inputs) = (f64::from(HIDDEN), f64::from(INPUTS));
    [
        (Init::XavierUniform, (6.0 / (inputs + hidden)).sqrt()),
        (Init::KaimingUniform(Side::Encoder), (6.0 / inputs).sqrt()),
        (Init::KaimingUniform(Side::Decoder), (6.0 / hidden).sqrt()),
        (Init::FanIn(Side::Encoder), 1.0 / inputs.sqrt()),
        (Init::FanIn(Side::Decoder), 1.0 / hidden.sqrt()),
    ]
}

/// Kinds and standard deviations.
fn normal_kinds() -> [(Init, f64); 3] {
    let (hidden, inputs) = (f64::from(HIDDEN), f64::from(INPUTS));
    [
        (Init::XavierNormal, (2.0 / (inputs + hidden)).sqrt()),
        (Init::KaimingNormal(Side::Encoder), (2.0 / inputs).sqrt()),
        (Init::KaimingNormal(Side::Decoder), (2.0 / hidden).sqrt()),
    ]
}

fn draw(init: Init, seed: u64, stream: u64) -> Vec<f32> {
    init.values(HIDDEN, INPUTS, COUNT, seed, stream)
}

/// The mean of the values' powers.
fn moment(values: &[f32], power: i32) -> f64 {
    let powers = values.iter().map(|value| f64::from(*value).powi(power));
    powers.sum::<f64>() / values.len() as f64
}

fn expect_about(what: &str, got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance, "{what}: {got} instead of {want}");
}

#[test]
fn uniform_kinds_fill_their_range_evenly() {
    for (init, bound) in uniform_kinds() {
        let values = draw(init, 7, 0);
        assert_eq!(values.len(), COUNT);
        let most = values.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
        assert!(most <= bound as f32, "{init:?}: {most} is beyond {bound}");
        assert!(most > 0.999 * bound as f32, "{init:?}: {most} of {bound} is all");
        // About five standard deviations of each mean of 200,000.
        expect_about(&format!("{init:?}: mean"), moment(&values, 1), 0.0, 0.007 * bound);
        let variance = bound * bound / 3.0;
        expect_about(&format!("{init:?}: variance"), moment(&values, 2), variance, 0.01 * variance);
        let fourth = bound.powi(4) / 5.0;
        expect_about(
            &format!("{init:?}: fourth moment"),
            moment(&values, 4),
            fourth,
            0.015 * fourth,
        );
    }
}

#[test]
fn normal_kinds_have_the_moments_of_their_bell() {
    for (init, deviation) in normal_kinds() {
        let values = draw(init, 7, 0);
        assert_eq!(values.len(), COUNT);
        expect_about(&format!("{init:?}: mean"), moment(&values, 1), 0.0, 0.012 * deviation);
        let variance = deviation * deviation;
        expect_about(
            &format!("{init:?}: variance"),
            moment(&values, 2),
            variance,
            0.016 * variance,
        );
        let fourth = 3.0 * variance * variance;
        expect_about(
            &format!("{init:?}: fourth moment"),
            moment(&values, 4),
            fourth,
            0.04 * fourth,
        );
    }
}

#[test]
fn zeros_are_zero() {
    let values = draw(Init::Zeros, 7, 0);
    assert_eq!(values.len(), COUNT);
    assert!(values.iter().all(|value| value.to_bits() == 0));
}

#[test]
fn seed_and_stream_decide_and_nothing_else() {
    for init in [Init::XavierUniform, Init::XavierNormal] {
        let first = draw(init, 7, 0);
        assert_eq!(draw(init, 7, 0), first, "{init:?}: the same seed");
        for (seed, stream) in [(8, 0), (7, 1), (0, 0), (u64::MAX, 0), (7, u64::MAX)] {
            let other = draw(init, seed, stream);
            let same = first.iter().zip(&other).filter(|(a, b)| a == b).count();
            assert!(same < 100, "{init:?}: seed {seed}, stream {stream}: {same} are the same");
        }
        // How many are drawn does not change the first ones.
        assert_eq!(init.values(HIDDEN, INPUTS, 5, 7, 0), first[..5], "{init:?}");
    }
}

#[test]
fn nothing_is_drawn_for_nothing() {
    let kinds = uniform_kinds().into_iter().chain(normal_kinds());
    for (init, _) in kinds.chain([(Init::Zeros, 0.0)]) {
        for [hidden, inputs] in [[0, 5], [5, 0], [0, 0], [5, 5]] {
            assert!(init.values(hidden, inputs, 0, 7, 0).is_empty(), "{init:?}");
        }
    }
}

/// As PyTorch has it: 1/√0 would be infinite.
#[test]
fn a_fan_of_zero_makes_zeros() {
    use Side::{Decoder, Encoder};
    for (init, hidden, inputs) in [
        (Init::XavierUniform, 0, 0),
        (Init::XavierNormal, 0, 0),
        (Init::KaimingUniform(Encoder), 5, 0),
        (Init::KaimingUniform(Decoder), 0, 5),
        (Init::KaimingNormal(Encoder), 5, 0),
        (Init::KaimingNormal(Decoder), 0, 5),
        (Init::FanIn(Encoder), 5, 0),
        (Init::FanIn(Decoder), 0, 5),
        (Init::Zeros, 5, 0),
    ] {
        let values = init.values(hidden, inputs, 9, 7, 0);
        assert_eq!(values, [0.0; 9], "{init:?} of {hidden}x{inputs}");
    }
    // The other side's fan does not matter, nor does half of both.
    for (init, hidden, inputs) in [
        (Init::KaimingUniform(Encoder), 0, 5),
        (Init::KaimingNormal(Decoder), 5, 0),
        (Init::FanIn(Encoder), 0, 5),
        (Init::XavierUniform, 5, 0),
        (Init::XavierNormal, 0, 5),
    ] {
        let values = init.values(hidden, inputs, 9, 7, 0);
        assert!(
            values.iter().all(|value| value.is_finite() && *value != 0.0),
            "{init:?}: {values:?}"
        );
    }
}

#[test]
fn the_default_is_xavier_uniform() {
    assert_eq!(Init::default(), Init::XavierUniform);
    assert_eq!(Init::KaimingNormal(Side::default()), Init::KaimingNormal(Side::Encoder));
}

/// Every platform must draw these.
#[test]
fn the_first_values_are_pinned_bit_by_bit() {
    for (init, seed, stream, want) in [
        (Init::XavierUniform, 0, 0, [0x3dd6_17de, 0xbc8b_95aa, 0x3dcb_ec35, 0xbe61_313f]),
        (Init::XavierUniform, 2024, 1, [0x3e7c_3faa, 0xbe51_486f, 0x3db9_4dc5, 0x3e3f_9260]),
        (Init::XavierNormal, 0, 0, [0x3dce_e927, 0xbcaa_5725, 0x3d33_1182, 0xbe4b_27cb]),
        (Init::XavierNormal, 2024, 1, [0x3e43_4582, 0xbe0e_1815, 0x3da2_1673, 0x3de1_7851]),
    ] {
        let values = init.values(32, 64, 4, seed, stream);
        let bits: Vec<u32> = values.into_iter().map(f32::to_bits).collect();
        assert_eq!(bits, want, "{init:?}, seed {seed}, stream {stream}");
    }
}
