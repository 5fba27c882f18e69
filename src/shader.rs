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
    VECTOR_64 = "vector_64.wgsl";
    MIXED = "mixed.wgsl";
    UNMIXED = "unmixed.wgsl";
    MATRIX = "matrix.wgsl";
    ACTIVATION = "activation.wgsl";
    LOSS = "loss.wgsl";
    PRODUCT = "product.wgsl";
    TILE_32 = "tile_32.wgsl";
    TILE_64 = "tile_64.wgsl";
    TILE_128 = "tile_128.wgsl";
    TILE = "tile.wgsl";
    LANES_SUBGROUP = "lanes_subgroup.wgsl";
    LANES_TALL = "lanes_tall.wgsl";
    LANES_ROWS = "lanes_rows.wgsl";
    LANES_ALONE = "lanes_alone.wgsl";
    LANES = "lanes.wgsl";
    SKINNY_GROUP = "skinny_group.wgsl";
    SKINNY_LANES = "skinny_lanes.wgsl";
    SKINNY_SUBGROUP = "skinny_subgroup.wgsl";
    SKINNY = "skinny.wgsl";
    COOPERATIVE = "cooperative.wgsl";
    COMBINE = "combine.wgsl";
    LINEAR = "linear.wgsl";
    ENCODE = "encode.wgsl";
    DECODE = "decode.wgsl";
    WEIGHT_GRADIENT = "weight_gradient.wgsl";
    BACKWARD = "backward.wgsl";
    BACKWARD_SGD = "backward_sgd.wgsl";
    BACKWARD_ADAM = "backward_adam.wgsl";
    ACTIVATION_GRADIENT = "activation_gradient.wgsl";
    COLUMN_SUMS = "column_sums.wgsl";
    NOISE = "noise.wgsl";
    MEASURE = "measure.wgsl";
    SQUARED_ERROR = "squared_error.wgsl";
    CROSS_ENTROPY = "cross_entropy.wgsl";
    PARAMETER_SET = "parameter_set.wgsl";
    VALUE_AND_COPY = "value.wgsl";
    SCALE = "scale.wgsl";
    LOSS_SCALE = "loss_scale.wgsl";
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
    /// The same as two 64-bit integers, which hold two f32 each: Vulkan drivers that run shaders on the CPU,
    /// with [`wgpu::Features::SHADER_INT64`].
    Vector64,
    /// One element at a time, of a type that is each matrix's own: f32, f16 or bf16. Offset and row
    /// stride of a 16-bit matrix are even.
    Mixed,
}

impl Width {
    /// All.
    pub const ALL: [Self; 4] = [Self::Scalar, Self::Vector, Self::Vector64, Self::Mixed];

    /// Elements that a place in a matrix stands for.
    pub const fn elements(self) -> u32 {
        match self {
            Self::Scalar | Self::Mixed => 1,
            Self::Vector | Self::Vector64 => 4,
        }
    }

    const fn sources(self) -> &'static [Source] {
        match self {
            Self::Scalar => &[SCALAR, UNMIXED],
            Self::Vector => &[VECTOR, UNMIXED],
            Self::Vector64 => &[VECTOR_64, UNMIXED],
            Self::Mixed => &[MIXED],
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
    /// The values that the library gives it, its default first.
    pub values: &'static [u32],
    /// Of a form's constant: whether other values than the default only go with the defaults of all
    /// of the kernel's own constants.
    pub alone: bool,
}

impl Override {
    /// A constant whose values go with all those of others.
    pub const fn free(name: &'static str, values: &'static [u32]) -> Self {
        Self { name, values, alone: false }
    }
}

/// One of the ways in which a kernel can be put together: the files that do the work and the
/// workgroup that they ask for.
#[derive(Debug, PartialEq, Eq)]
pub struct Form {
    /// The stem of the file that makes the difference; empty where a kernel has one form.
    pub name: &'static str,
    /// The files, in order, before all others: WGSL wants directives first.
    pub sources: &'static [Source],
    /// Invocations in a workgroup.
    pub workgroup_size: u32,
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
    /// The constants of these files that the library overrides.
    pub overrides: &'static [Override],
    /// The features that the device must have.
    pub features: wgpu::Features,
    /// The size that all its subgroups must have.
    pub subgroup_size: Option<u32>,
}

impl Form {
    /// The form of a kernel that has but one.
    pub const fn only(workgroup_size: u32, workgroup_bytes: u32) -> Self {
        Self {
            name: "",
            sources: &[],
            workgroup_size,
            workgroup_bytes,
            overrides: &[],
            features: wgpu::Features::empty(),
            subgroup_size: None,
        }
    }
}

/// The binding, in value.wgsl, of the matrix that a kernel updates and of its working copy.
pub(crate) const VALUE: &str = "value";

/// All there is to know of a kernel, apart from its arguments.
#[derive(Debug, PartialEq, Eq)]
pub struct Shader {
    /// Entry point, file stem, method of [`Kernels`](crate::Kernels), debug label.
    pub name: &'static str,
    /// The files, in order, after those of the [`Form`] and of the [`Width`].
    pub sources: &'static [Source],
    /// The ways to put it together.
    pub forms: &'static [&'static Form],
    /// The bindings, by group.
    pub groups: &'static [&'static [Binding]],
    /// The constants that the library overrides in every form.
    pub overrides: &'static [Override],
    /// The matrices whose elements may be others than f32.
    pub elements: &'static [Element],
}

/// A matrix of a kernel whose elements may be of any type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element {
    /// The binding's name.
    pub binding: &'static str,
    /// The name of the constant that says what the elements are, with the code of an
    /// [`ElementType`](crate::ElementType); f32 where it is not overridden.
    pub constant: &'static str,
}

/// The [`Element`]s of these bindings, each with its constant.
macro_rules! elements {
    ($($binding:tt: $constant:literal,)*) => {
        &[$($crate::shader::Element { binding: $binding, constant: $constant },)*]
    };
}
pub(crate) use elements;

impl Shader {
    /// The widths that the kernel can have.
    pub fn widths(&self) -> &'static [Width] {
        const OF_F32: [Width; 3] = [Width::Scalar, Width::Vector, Width::Vector64];
        if self.elements.is_empty() { &OF_F32 } else { &Width::ALL }
    }

    /// Whether the kernel updates the matrix at this binding together with its working copy.
    pub(crate) fn updates(&self, binding: &Binding) -> bool {
        binding.name == VALUE
    }

    /// Whether the elements of this binding's matrix may be others than f32.
    pub(crate) fn takes_any_element(&self, binding: &str) -> bool {
        self.elements.iter().any(|element| element.binding == binding)
    }

    /// The complete WGSL for one width and form.
    pub fn source(&self, width: Width, form: &Form) -> String {
        let files = form.sources.iter().chain(width.sources()).chain(self.sources);
        files.map(|source| source.text).collect::<Vec<_>>().join("\n")
    }

    /// The constants that the library overrides in this form.
    pub fn overrides_in(&self, form: &Form) -> impl Iterator<Item = &'static Override> {
        self.overrides.iter().chain(form.overrides)
    }

    /// Every combination of override values that the library can ask for in this form.
    pub fn specialisations(&self, form: &Form) -> Vec<Vec<(&'static str, f64)>> {
        let constants: Vec<_> = self.overrides_in(form).collect();
        let all = constants.iter().fold(vec![Vec::new()], |combinations, constant| {
            let extend = |combination: &Vec<(&'static str, u32)>, value: u32| {
                let mut combination = combination.clone();
                combination.push((constant.name, value));
                combination
            };
            combinations
                .iter()
                .flat_map(|combination| {
                    constant.values.iter().map(move |v| extend(combination, *v))
                })
                .collect()
        });
        let possible = |combination: &Vec<(&str, u32)>| {
            let pairs = || constants.iter().zip(combination);
            let differs = |constant: &Override, value: u32| value != constant.values[0];
            let own_differ = pairs()
                .take(self.overrides.len())
                .any(|(constant, (_, value))| differs(constant, *value));
            let alone =
                pairs().any(|(constant, (_, value))| constant.alone && differs(constant, *value));
            !(alone && own_differ)
        };
        let as_floats = |combination: Vec<(&'static str, u32)>| {
            combination.into_iter().map(|(name, value)| (name, f64::from(value))).collect()
        };
        all.into_iter().filter(possible).map(as_floats).collect()
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
