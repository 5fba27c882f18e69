//! `backward_adam`: the same bits as `backward` and `adam` one after the other, and no gradient.

mod common;

use common::fused::{Fused, Parameters, check};
use tied_linear::AdamSettings;
use tied_linear::kernels::{AdamState, AdamUpdate, BackwardAdam, ParameterUpdate};

#[test]
fn it_is_backward_and_adam() {
    check(|rig, fused| {
        let settings = AdamSettings::adamw(0.01).to_uniform().unwrap();
        let settings = rig.uniform(&settings);
        let state =
            |of: &Parameters| AdamState::new(&rig.kernels, &[&of.weight, &of.bias]).unwrap();
        let (apart, together) = (state(&fused.apart), state(&fused.together));
        for _ in 0..3 {
            rig.run(&rig.kernels.backward(&fused.backward()).unwrap());
            let parameters = fused.apart.updates(&fused.gradient, &fused.bias_gradient);
            let update = AdamUpdate {
                parameters: &parameters,
                state: &apart,
                settings: &settings,
                loss_scale: None,
            };
            rig.run(&rig.kernels.adam(&update).unwrap());

            let value = &fused.together.weight;
            let call = BackwardAdam {
                factors: fused.factors(),
                value,
                state: &together,
                settings: &settings,
            };
            rig.run(&rig.kernels.backward_adam(&call).unwrap());
            let parameters: [ParameterUpdate<'_>; 2] =
                fused.together.updates(value, &fused.bias_gradient);
            let rest = AdamUpdate {
                parameters: &parameters,
                state: &together,
                settings: &settings,
                loss_scale: None,
            };
            rig.run(&rig.kernels.adam_rest(&rest).unwrap());
        }
        for (apart, together) in apart.moments().iter().zip(together.moments()) {
            Fused::expect_same(rig, "m", apart.first_moment(), together.first_moment());
            Fused::expect_same(rig, "v", apart.second_moment(), together.second_moment());
            let [want, got] = [apart, together].map(|moments| rig.bits(moments.steps()));
            assert_eq!(got, want, "step counts on {}", rig.name);
            assert!(got.iter().all(|step| *step == 3), "three steps: {got:?}");
        }
    });
}
