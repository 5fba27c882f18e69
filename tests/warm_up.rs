//! After a warm-up there is no pipeline left to build.

mod common;

use common::{Rig, on_every_adapter, once_per_adapter};
use tied_linear::{
    Activation, AdamSettings, ElementType, ElementTypes, Gradients, Loss, LossScale,
    LossScaleSettings, Optimizer, Tape, TiedLinear, TiedLinearOptions, TrainingOptions,
    TrainingStep, WarmUp, WarmUpTraining,
};

#[test]
fn a_warm_up_builds_all_pipelines_of_forward_passes_and_training_steps() {
    on_every_adapter(|rig| expect_nothing_left(rig, ElementType::F32, false));
}

#[test]
fn a_warm_up_for_16_bits_builds_those() {
    once_per_adapter(|rig| expect_nothing_left(rig, ElementType::F16, true));
}

/// All of this type, with or without a scale of the loss.
fn expect_nothing_left(rig: &Rig, element: ElementType, scaled: bool) {
    let (instance, rig) = rig.of_own_instance(|_| {}).unwrap();
    let built = || {
        let report = instance.generate_report().expect("a report");
        report.hub_report().compute_pipelines.num_allocated
    };
    let layer = TiedLinearOptions::new(20, 12)
        .with_activations(Activation::Sigmoid, Activation::Identity)
        .with_weight_element(element);
    let elements = ElementTypes::all(element);
    let options =
        TrainingOptions::default().with_loss(Loss::BinaryCrossEntropy).with_elements(elements);
    let settings = AdamSettings::adam(1e-3);
    let batches = [1, 40];
    let training = WarmUpTraining::new(options, settings)
        .with_gradient_element(element)
        .with_loss_scale(scaled);
    let call = WarmUp::new(&layer, &batches)
        .with_input_element(element)
        .with_tape_elements(elements)
        .with_training(training);
    rig.kernels.warm_up(&rig.gpu.queue, &call).unwrap();
    let warm = built();
    assert!(warm >= 5, "{warm} pipelines");

    let layer = TiedLinear::new(&rig.kernels, &layer).unwrap();
    let mut optimizer = Optimizer::new(&rig.kernels, &layer.parameters(), settings).unwrap();
    if scaled {
        let scale = LossScale::new(&rig.kernels, LossScaleSettings::fixed(8.0)).unwrap();
        optimizer = optimizer.with_loss_scale(scale);
    }
    let gradients = Gradients::new_as(&layer, element).unwrap();
    for batch in batches {
        let input = rig.kernels.zeros_as("input", batch, 20, element).unwrap();
        let tape = Tape::new_as(&layer, batch, elements).unwrap();
        rig.run(&layer.forward(&input, &tape).unwrap());
        let step =
            TrainingStep::new(&layer, &optimizer, &gradients, &input, &input, options).unwrap();
        rig.run(step.gradient_commands());
        rig.run(step.update_commands());
    }
    assert_eq!(built(), warm, "pipelines built after the warm-up");
}

#[test]
fn a_warm_up_for_nothing_builds_nothing() {
    on_every_adapter(|rig| {
        let layer = TiedLinearOptions::new(8, 4);
        let call = WarmUp::new(&layer, &[]);
        rig.kernels.warm_up(&rig.gpu.queue, &call).unwrap();
    });
}
