//! Training in 16 bits: f32 masters with working copies, and scaled losses.

mod common;

use common::once_per_adapter;
use tied_linear::{
    AdamSettings, ElementType, ElementTypes, Gradients, LossScale, LossScaleSettings, Optimizer,
    TiedLinear, TiedLinearOptions, TrainingOptions, TrainingStep,
};

#[test]
fn a_step_learns_in_every_type() {
    once_per_adapter(|rig| {
        for element in ElementType::ALL {
            let options = TiedLinearOptions::new(13, 6).with_weight_element(element).with_seed(3);
            let layer = TiedLinear::new(&rig.kernels, &options).unwrap();
            let settings = AdamSettings::adam(0.01);
            let optimizer = Optimizer::new(&rig.kernels, &layer.parameters(), settings).unwrap();
            let scale = LossScale::new(&rig.kernels, LossScaleSettings::dynamic()).unwrap();
            let optimizer = optimizer.with_loss_scale(scale);
            let gradients = Gradients::new_as(&layer, element).unwrap();
            let input = rig.put_as(&common::random(21, 13, 1), common::Place::Tight, element);
            let options = TrainingOptions::default().with_elements(ElementTypes::all(element));
            let step =
                TrainingStep::new(&layer, &optimizer, &gradients, &input, &input, options).unwrap();
            let mut losses = Vec::new();
            for _ in 0..30 {
                rig.run(step.gradient_commands());
                rig.run(step.update_commands());
                losses.push(rig.get(step.loss())[0]);
            }
            let status = optimizer.loss_scale().unwrap();
            let status = status.read_blocking(&rig.gpu.device, &rig.gpu.queue).unwrap();
            println!("{element}: {:?} … {:?}, {status:?}", losses[0], losses[29]);
            assert!(losses[29] < 0.8 * losses[0]);
        }
    });
}
