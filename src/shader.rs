//! The WGSL: the one place that includes it, puts files together and names what can be overridden.
//!
//! A kernel is described once, by a [`Shader`]; pipelines, bind-group layouts and the checks of a
//! device's limits are made from that description, and a test holds it against the WGSL itself.

/// One WGSL file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The file's name in `shaders/`.
    pub file: &'static str,
    /// Its text.
    pub text: &'static str,
}

macro_rules! sources {
    ($($name:ident = $file:literal;)*) => {
        $(
            #[doc = concat!("`shaders/", $file, "`")]
            pub const $name: Source =
                Source { file: $file, text: include_str!(concat!("../shaders/", $file)) };
        )*
        /// Every file.
        pub const SOURCES: &[Source] = &[$($name),*];
    };
}

sources! {
    SCALAR = "scalar.wgsl";
    VECTOR = "vector.wgsl";
    MATRIX = "matrix.wgsl";
    ACTIVATION = "activation.wgsl";
    TILE = "tile.wgsl";
    LINEAR = "linear.wgsl";
    ENCODE = "encode.wgsl";
    DECODE = "decode.wgsl";
    BACKWARD = "backward.wgsl";
    ACTIVATION_GRADIENT = "activation_gradient.wgsl";
    BIAS_GRADIENT = "bias_gradient.wgsl";
    LOSS = "loss.wgsl";
    SQUARED_ERROR = "squared_error.wgsl";
    CROSS_ENTROPY = "cross_entropy.wgsl";
    SUM = "sum.wgsl";
    PARAMETER_SET = "parameter_set.wgsl";
    SGD_RULE = "sgd_rule.wgsl";
    SGD = "sgd.wgsl";
    ADAM_RULE = "adam_rule.wgsl";
    ADAM = "adam.wgsl";
}

/// How a kernel reads and writes matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Width {
    /// One f32 at a time: any shape, offset and row stride.
    Scalar,
    /// Four f32 at a time: offset, row stride and columns of every matrix are multiples of four.
    Vector,
}

impl Width {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Scalar, Self::Vector];

    /// Elements in a word.
    pub const fn elements(self) -> u32 {
        match self {
            Self::Scalar => 1,
            Self::Vector => 4,
        }
    }

    const fn source(self) -> Source {
        match self {
            Self::Scalar => SCALAR,
            Self::Vector => VECTOR,
        }
    }
}

/// A field of a Rust struct that mirrors a WGSL uniform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Field {
    /// The field's name, the same in both languages.
    pub name: &'static str,
    /// Bytes from the start of the struct.
    pub offset: usize,
    /// Size in bytes.
    pub size: usize,
}

/// What is bound at one place of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// A uniform buffer with these fields.
    Uniform(&'static [Field]),
    /// A matrix in words of the dispatch's [`Width`], read only.
    Read,
    /// A matrix in words of the dispatch's [`Width`], written, and read where the kernel says so.
    Write,
    /// Plain 32-bit values (or quads of them) whatever the width, read only.
    ReadValues,
    /// Plain 32-bit values (or quads of them) whatever the width, written.
    WriteValues,
}

impl Access {
    /// Whether the kernel writes through the binding.
    pub const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::WriteValues)
    }
}

/// One binding of a kernel: its place in the group is its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Binding {
    /// The variable's name in WGSL and the operand's name in error messages.
    pub name: &'static str,
    /// What is bound.
    pub access: Access,
}

/// A constant that a pipeline is specialised with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Override {
    /// Its name in WGSL.
    pub name: &'static str,
    /// It takes the values 0 … `values` − 1.
    pub values: u32,
}

/// All there is to know of a kernel, apart from its arguments.
#[derive(Debug, PartialEq, Eq)]
pub struct Shader {
    /// Entry point, file stem, method of [`Kernels`](crate::Kernels), debug label.
    pub name: &'static str,
    /// The files, in order, after the one of the [`Width`].
    pub sources: &'static [Source],
    /// Invocations in a workgroup.
    pub workgroup_size: u32,
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
    /// The bindings, by group.
    pub groups: &'static [&'static [Binding]],
    /// The constants that the library overrides.
    pub overrides: &'static [Override],
}

impl Shader {
    /// The complete WGSL for one width.
    pub fn source(&self, width: Width) -> String {
        let files = std::iter::once(width.source()).chain(self.sources.iter().copied());
        files.map(|source| source.text).collect::<Vec<_>>().join("\n")
    }

    /// Every combination of override values that the library can ask for.
    pub fn specialisations(&self) -> Vec<Vec<(&'static str, f64)>> {
        self.overrides.iter().fold(vec![Vec::new()], |combinations, constant| {
            let extend = |combination: &Vec<(&'static str, f64)>, value: u32| {
                let mut combination = combination.clone();
                combination.push((constant.name, f64::from(value)));
                combination
            };
            combinations
                .iter()
                .flat_map(|combination| (0..constant.values).map(move |v| extend(combination, v)))
                .collect()
        })
    }

    /// Storage buffers bound at once.
    pub fn storage_buffers(&self) -> u32 {
        let storage = |binding: &&Binding| !matches!(binding.access, Access::Uniform(_));
        self.groups.iter().flat_map(|group| group.iter()).filter(storage).count() as u32
    }
}

/// Declares a `#[repr(C)]` struct that mirrors a WGSL uniform, and its list of [`Field`]s.
macro_rules! uniform {
    ($(#[$meta:meta])* struct $name:ident { $($field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
        pub(crate) struct $name {
            $(pub(crate) $field: $type,)*
        }

        impl $name {
            pub(crate) const FIELDS: &'static [$crate::shader::Field] = &[$(
                $crate::shader::Field {
                    name: stringify!($field),
                    offset: std::mem::offset_of!($name, $field),
                    size: size_of::<$type>(),
                },
            )*];
        }
    };
}
pub(crate) use uniform;
