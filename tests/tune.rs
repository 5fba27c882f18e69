//! `tune` measures and returns a table, and what the table says is done.

mod common;

use common::reference::Dense;
use common::{Place, Rig, expect_close, on_every_adapter, random};
use tied_linear::kernels::Linear;
use tied_linear::{Choice, Pattern, ProductShape, Strategy, Weight, tune};

const BATCH: u32 = 3;
const INPUTS: u32 = 70;
const HIDDEN: u32 = 37;

/// H by the kernels of `rig`, against f64.
fn expect_encode(rig: &Rig) {
    let (x, w) = (random(BATCH, INPUTS, 1), random(HIDDEN, INPUTS, 2));
    let weight = Weight::new(&rig.kernels, rig.put(&w, Place::Tight)).unwrap();
    let output = rig.poisoned(BATCH, HIDDEN, Place::Tight);
    let input = rig.put(&x, Place::Tight);
    rig.run(&rig.kernels.encode(&weight, &Linear::new(&input, &output)).unwrap());
    let want = Dense::new(BATCH, HIDDEN, |b, h| (0..INPUTS).map(|i| x.at(b, i) * w.at(h, i)).sum());
    let tolerance = Dense::new(BATCH, HIDDEN, |_, _| 1e-5);
    expect_close(&rig.name, &rig.get(&output), &want, &tolerance);
}

#[test]
fn the_table_has_an_available_choice_for_each_product_and_results_stay_right() {
    on_every_adapter(|rig| {
        let products = ProductShape::of_layer(BATCH, INPUTS, HIDDEN);
        let table = tune(&rig.kernels, &rig.gpu.queue, &products).unwrap();
        assert_eq!(table.exceptions().count(), products.len());
        for product in &products {
            let choice = table.choose(product);
            assert!(table.candidates(product).contains(&choice), "{product:?}: {choice}");
            assert!(table.available().contains(&choice.strategy), "{product:?}: {choice}");
        }
        let other = ProductShape::encode(BATCH, INPUTS, HIDDEN + 1);
        assert_eq!(table.choose(&other), rig.kernels.choice(&other), "no exception for others");
        let tuned = Rig {
            name: format!("{}, tuned", rig.name),
            gpu: rig.gpu.clone(),
            kernels: rig.kernels.with_strategies(table),
        };
        expect_encode(&tuned);
    });
}

#[test]
fn every_candidate_computes_the_same_product() {
    on_every_adapter(|rig| {
        let product = ProductShape::encode(BATCH, INPUTS, HIDDEN);
        for choice in rig.kernels.strategies().candidates(&product) {
            let mut table = rig.kernels.strategies().clone();
            table.set(product, choice).unwrap();
            let kernels = rig.kernels.with_strategies(table);
            assert_eq!(kernels.choice(&product), choice);
            let name = format!("{}, {choice}", rig.name);
            expect_encode(&Rig { name, gpu: rig.gpu.clone(), kernels });
        }
    });
}

#[test]
fn a_skinny_strategy_is_no_candidate_for_a_weight_gradient() {
    on_every_adapter(|rig| {
        let product = ProductShape { pattern: Pattern::Backward, rows: 1, columns: 64, depth: 64 };
        let candidates = rig.kernels.strategies().candidates(&product);
        assert!(!candidates.is_empty());
        for Choice { strategy, .. } in candidates {
            assert!(strategy != Strategy::SkinnyGroup && strategy != Strategy::SkinnyLanes);
        }
    });
}
