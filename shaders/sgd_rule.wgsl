// sgd_rule.wgsl — put in front: stochastic gradient descent's step on one quad of a parameter.
//
//   g = gradient + weight_decay·w
//   v = momentum·v + g                          (with momentum)
//   d = g + momentum·v with Nesterov, else v    (without momentum: g)
//   w = w − learning_rate·d
//
// As PyTorch's SGD with dampening 0; the velocity v starts at zero. No bindings: a kernel that has a
// quad of the gradient in registers can update the parameter with it.
//
// Source: Sutskever et al., "On the importance of initialization and momentum in deep learning"
// (ICML 2013), in the form of PyTorch's documentation.
// Tests: sgd.rs, training.rs, known_answers.rs.

struct SgdSettings {
    learning_rate: f32,
    momentum: f32,
    weight_decay: f32,
    nesterov: u32,
}

struct SgdQuad {
    value: vec4<f32>,
    velocity: vec4<f32>,
}

// Without momentum the velocity is left as it is.
fn sgd_step(settings: SgdSettings, has_momentum: bool, old: SgdQuad, gradient: vec4<f32>) -> SgdQuad {
    let w = old.value;
    let g = gradient + settings.weight_decay * w;
    var v = old.velocity;
    var direction = g;
    if has_momentum {
        v = settings.momentum * v + g;
        direction = select(v, g + settings.momentum * v, vec4<bool>(settings.nesterov != 0u));
    }
    return SgdQuad(w - settings.learning_rate * direction, v);
}
