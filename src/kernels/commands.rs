//! [`Commands`]: prepared dispatches, ready to record.

/// One dispatch, with all that it needs made.
#[derive(Debug, Clone)]
pub(super) struct Dispatch {
    pub(super) pipeline: wgpu::ComputePipeline,
    /// By group, from 0.
    pub(super) bind_groups: Vec<wgpu::BindGroup>,
    pub(super) workgroups: [u32; 2],
}

/// Dispatches that have been checked, bound and specialised: record them as often as you like.
///
/// Their bind groups hold the matrices that they were prepared with, so a second batch size is a
/// second `Commands`. Cloning is cheap; [`Commands::then`] joins two.
#[derive(Debug, Clone, Default)]
#[must_use = "commands do nothing until they are recorded"]
pub struct Commands {
    dispatches: Vec<Dispatch>,
}

impl Commands {
    pub(super) fn one(dispatch: Dispatch) -> Self {
        Self { dispatches: vec![dispatch] }
    }

    /// Records the dispatches, in order, into a compute pass of the device that the kernels were
    /// made for.
    ///
    /// The pass is left with another pipeline and other bind groups 0 and 1 than before.
    ///
    /// It makes no wgpu object, writes nothing to the queue and allocates nothing itself. wgpu
    /// orders dispatches of a pass that touch the same buffers.
    pub fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        for dispatch in &self.dispatches {
            pass.set_pipeline(&dispatch.pipeline);
            for (index, bind_group) in (0..).zip(&dispatch.bind_groups) {
                pass.set_bind_group(index, bind_group, &[]);
            }
            let [x, y] = dispatch.workgroups;
            pass.dispatch_workgroups(x, y, 1);
        }
    }

    /// These commands, then `others`.
    pub fn then(mut self, others: Self) -> Self {
        self.dispatches.extend(others.dispatches);
        self
    }

    /// Number of dispatches; 0 where there was nothing to do, as for an empty batch.
    pub fn len(&self) -> usize {
        self.dispatches.len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.dispatches.is_empty()
    }
}
