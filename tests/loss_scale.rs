//! `loss_scale`: whether gradients are finite, and what that makes of the loss's scale.

mod common;

use common::{Rig, once_per_adapter};
use tied_linear::{LossScale, LossScaleSettings, LossScaleStatus, Matrix};

fn check(rig: &Rig, scale: &LossScale, gradients: &[&Matrix]) -> LossScaleStatus {
    rig.run(&rig.kernels.loss_scale(scale, gradients).unwrap());
    scale.read_blocking(&rig.gpu.device, &rig.gpu.queue).unwrap()
}

#[test]
fn it_grows_after_an_interval_and_shrinks_at_once() {
    once_per_adapter(|rig| {
        let settings =
            LossScaleSettings::dynamic().with_initial(8.0).with_interval(2).with_range([4.0, 16.0]);
        let scale = LossScale::new(&rig.kernels, settings).unwrap();
        let finite = rig.kernels.matrix("finite", 1, 3, &[1.0, f32::MAX, -f32::MAX]).unwrap();
        let infinite = rig.kernels.matrix("infinite", 1, 3, &[1.0, 2.0, f32::INFINITY]).unwrap();
        let mut skipped = 0;
        for (gradient, scale_after, good_steps) in [
            (&finite, 8.0, 1),
            (&finite, 16.0, 0),
            (&finite, 16.0, 1),
            (&finite, 16.0, 0),
            (&finite, 16.0, 1),
            (&infinite, 8.0, 0),
            (&infinite, 4.0, 0),
            (&infinite, 4.0, 0),
            (&finite, 4.0, 1),
            (&finite, 8.0, 0),
        ] {
            skipped += u32::from(std::ptr::eq(gradient, &infinite));
            let want = LossScaleStatus { scale: scale_after, good_steps, skipped };
            assert_eq!(check(rig, &scale, &[gradient]), want);
        }
    });
}
