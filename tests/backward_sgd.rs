//! `backward_sgd`: the same bits as `backward` and `sgd` one after the other, and no gradient.

mod common;

use common::Rig;
use common::fused::{Fused, Parameters, check};
use tied_linear::SgdSettings;
use tied_linear::kernels::{BackwardSgd, SgdState, SgdUpdate};

fn check_momentum(rig: &Rig, fused: &Fused, momentum: f64) {
    let settings = SgdSettings::new(0.05).with_momentum(momentum).with_weight_decay(0.1);
    let settings = rig.uniform(&settings.to_uniform().unwrap());
    let state = |of: &Parameters| SgdState::new(&rig.kernels, &[&of.weight, &of.bias]).unwrap();
    let has_state = momentum != 0.0;
    let apart = has_state.then(|| state(&fused.apart));
    let together = has_state.then(|| state(&fused.together));
    for _ in 0..3 {
        rig.run(&rig.kernels.backward(&fused.backward()).unwrap());
        let parameters = fused.apart.updates(&fused.gradient, &fused.bias_gradient);
        let state = apart.as_ref();
        let update =
            SgdUpdate { parameters: &parameters, state, settings: &settings, loss_scale: None };
        rig.run(&rig.kernels.sgd(&update).unwrap());

        let (value, state) = (&fused.together.weight, together.as_ref());
        let call = BackwardSgd { factors: fused.factors(), value, state, settings: &settings };
        rig.run(&rig.kernels.backward_sgd(&call).unwrap());
        let parameters = fused.together.updates(value, &fused.bias_gradient);
        let rest =
            SgdUpdate { parameters: &parameters, state, settings: &settings, loss_scale: None };
        rig.run(&rig.kernels.sgd_rest(&rest).unwrap());
    }
}

#[test]
fn it_is_backward_and_sgd() {
    check(|rig, fused| check_momentum(rig, fused, 0.0));
}

#[test]
fn it_is_backward_and_sgd_with_momentum() {
    check(|rig, fused| check_momentum(rig, fused, 0.9));
}
