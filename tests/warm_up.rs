//! After a warm-up there is no pipeline left to build.

mod common;

use common::on_every_adapter;
use tied_linear::{
    Activation, AdamSettings, Gradients, Loss, Optimizer, Tape, TiedLinear, TiedLinearOptions,
    TrainingOptions, TrainingStep, WarmUp,
};

#[test]
fn a_warm_up_builds_all_pipelines_of_forward_passes_and_training_steps() {
    on_every_adapter(|rig| {
        let (instance, rig) = rig.of_own_instance(|_| {}).unwrap();
        let built = || {
            let report = instance.generate_report().expect("a report");
            report.hub_report().compute_pipelines.num_allocated
        };
        let activations = (Activation::Sigmoid, Activation::Identity);
        let layer = TiedLinearOptions::new(20, 12).with_activations(activations.0, activations.1);
        let training = TrainingOptions::default().with_loss(Loss::BinaryCrossEntropy);
        let settings = AdamSettings::adam(1e-3);
        let batches = [1, 40];
        let call = WarmUp {
            layer: &layer,
            batches: &batches,
            training: Some((training, settings.into())),
        };
        rig.kernels.warm_up(&rig.gpu.queue, &call).unwrap();
        let warm = built();
        assert!(warm >= 5, "{warm} pipelines");

        let layer = TiedLinear::new(&rig.kernels, &layer).unwrap();
        let optimizer = Optimizer::new(&rig.kernels, &layer.parameters(), settings).unwrap();
        let gradients = Gradients::new(&layer).unwrap();
        for batch in batches {
            let input = rig.kernels.zeros("input", batch, 20).unwrap();
            let tape = Tape::new(&layer, batch).unwrap();
            rig.run(&layer.forward(&input, &tape).unwrap());
            let step = TrainingStep::new(&layer, &optimizer, &gradients, &input, &input, training)
                .unwrap();
            rig.run(step.gradient_commands());
            rig.run(step.update_commands());
        }
        assert_eq!(built(), warm, "pipelines built after the warm-up");
    });
}

#[test]
fn a_warm_up_for_nothing_builds_nothing() {
    on_every_adapter(|rig| {
        let layer = TiedLinearOptions::new(8, 4);
        let call = WarmUp { layer: &layer, batches: &[], training: None };
        rig.kernels.warm_up(&rig.gpu.queue, &call).unwrap();
    });
}
