//! What recording costs the host's processor.

use std::time::Instant;

use crate::rig::Rig;
use crate::work::Work;

/// Recordings into one pass, and how many passes the median is taken of.
const RECORDINGS: u32 = 200;
const PASSES: usize = 21;

/// The median seconds of recording `work` once, into a pass that is never submitted.
pub fn seconds(rig: &Rig, work: &Work) -> f64 {
    let mut samples: Vec<_> = (0..PASSES).map(|_| once(rig, work)).collect();
    samples.sort_by(f64::total_cmp);
    samples[PASSES / 2]
}

fn once(rig: &Rig, work: &Work) -> f64 {
    let mut encoder = rig.gpu.device.create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    let start = Instant::now();
    for _ in 0..RECORDINGS {
        work.record(&mut pass);
    }
    start.elapsed().as_secs_f64() / f64::from(RECORDINGS)
}
