//! The WGSL against its description in `kernels::SHADERS`, and through naga to every backend. No GPU.

#[allow(dead_code)]
#[path = "common/shares.rs"]
mod shares;
#[path = "common/translation.rs"]
mod translation;
#[path = "common/uniformity.rs"]
mod uniformity;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use naga::back::pipeline_constants::process_overrides;
use naga::valid::{Capabilities, GlobalUse, ModuleInfo, ValidationFlags, Validator};
use naga::{
    AddressSpace, GlobalVariable, Handle, Literal, Module, ResourceBinding, Scalar, ShaderStage,
    StorageAccess, TypeInner,
};
use tied_linear::kernels::{AdamSettings, SHADERS, SgdSettings};
use tied_linear::shader::{Access, Field, Form, Override, SCALAR, SOURCES, Shader, Source, Width};
use tied_linear::{Activation, ElementType, Pattern, Strategy, wgpu};

use shares::{SHARES, Share};
use translation::Language;

/// A shader in one form and width, parsed and valid.
struct Parsed {
    shader: &'static Shader,
    form: &'static Form,
    width: Width,
    /// Shader, form and width, for messages.
    name: String,
    module: Module,
    info: ModuleInfo,
}

fn every_shader() -> &'static [Parsed] {
    static EVERY: OnceLock<Vec<Parsed>> = OnceLock::new();
    EVERY.get_or_init(|| {
        let in_form = |(shader, form): (&'static Shader, &'static Form)| {
            shader.widths().iter().map(move |width| parsed(shader, form, *width))
        };
        every_form().flat_map(in_form).collect()
    })
}

fn every_form() -> impl Iterator<Item = (&'static Shader, &'static Form)> {
    SHADERS.iter().flat_map(|shader| shader.forms.iter().map(|form| (*shader, *form)))
}

fn parsed(shader: &'static Shader, form: &'static Form, width: Width) -> Parsed {
    let name = [shader.name, form.name].join(" ");
    let name = format!("{} {width:?}", name.trim());
    let source = shader.source(width, form);
    let module = naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(&source)));
    let info = validator(form, width)
        .validate(&module)
        .unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(&source)));
    Parsed { shader, form, width, name, module, info }
}

/// A validator for a device without any optional feature but those that a form and a width ask for.
fn validator(form: &Form, width: Width) -> Validator {
    let capabilities = [
        (wgpu::Features::SUBGROUP, Capabilities::SUBGROUP),
        (wgpu::Features::SHADER_F16, Capabilities::SHADER_FLOAT16),
        (wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX, Capabilities::COOPERATIVE_MATRIX),
    ];
    let needed = capabilities.into_iter().filter(|(feature, _)| form.features.contains(*feature));
    let needed: Capabilities = needed.map(|(_, capability)| capability).collect();
    Validator::new(ValidationFlags::all(), needed | capabilities_of(width))
}

/// What a width asks of a device.
fn capabilities_of(width: Width) -> Capabilities {
    match width {
        Width::Vector64 => Capabilities::SHADER_INT64,
        Width::Scalar | Width::Vector | Width::Mixed => Capabilities::empty(),
    }
}

/// Whether a form is written in naga's own extension of WGSL, for which it writes no HLSL.
fn is_cooperative(form: &Form) -> bool {
    form.features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX)
}

impl Parsed {
    /// The variables that are bound, with their places.
    fn bound(&self) -> impl Iterator<Item = (ResourceBinding, &GlobalVariable)> {
        let variables = self.module.global_variables.iter();
        variables.filter_map(|(_, variable)| Some((variable.binding?, variable)))
    }

    /// What the entry point does with a variable, through all that it calls.
    fn use_of(&self, variable: Handle<GlobalVariable>) -> GlobalUse {
        self.info.get_entry_point(0)[variable]
    }

    fn type_of(&self, variable: &GlobalVariable) -> &TypeInner {
        &self.module.types[variable.ty].inner
    }

    /// The name of the override that an override takes its default from.
    fn derived(&self, name: &str) -> &str {
        let mut overrides = self.module.overrides.iter();
        let (_, constant) = overrides
            .find(|(_, constant)| constant.name.as_deref() == Some(name))
            .unwrap_or_else(|| panic!("{} has no {name}", self.name));
        let default = constant.init.expect("a default");
        match self.module.global_expressions[default] {
            naga::Expression::Override(other) => {
                self.module.overrides[other].name.as_deref().unwrap_or_default()
            }
            ref other => panic!("{}: {name} is {other:?}", self.name),
        }
    }

    /// The value of a constant of type u32.
    fn constant(&self, name: &str) -> Option<u32> {
        let mut constants = self.module.constants.iter();
        let (_, constant) = constants.find(|(_, c)| c.name.as_deref() == Some(name))?;
        match self.module.global_expressions[constant.init] {
            naga::Expression::Literal(Literal::U32(value)) => Some(value),
            ref other => panic!("{}: {name} is not a u32, but {other:?}", self.name),
        }
    }

    /// The module with the overrides replaced by these values, valid again.
    fn specialised(&self, values: &[(&str, f64)]) -> (Module, ModuleInfo) {
        let constants = values.iter().map(|(name, value)| (name.to_string(), *value)).collect();
        let entry = Some((ShaderStage::Compute, self.shader.name));
        let (module, _) = process_overrides(&self.module, &self.info, entry, &constants)
            .unwrap_or_else(|error| panic!("{} {values:?}: {error}", self.name));
        let module = module.into_owned();
        let info = validator(self.form, self.width)
            .validate_resolved_overrides(&module)
            .unwrap_or_else(|error| panic!("{} {values:?}: {error:?}", self.name));
        (module, info)
    }
}

#[test]
fn one_entry_point_named_like_shader_and_file() {
    for parsed in every_shader() {
        let Parsed { shader, form, name, .. } = parsed;
        let [entry] = &parsed.module.entry_points[..] else {
            panic!("{name}: {} entry points", parsed.module.entry_points.len());
        };
        assert_eq!(entry.name, shader.name, "{name}");
        assert_eq!(entry.stage, ShaderStage::Compute, "{name}");
        assert_eq!(entry.workgroup_size, [form.workgroup_size, 1, 1], "{name}");
        assert!(entry.workgroup_size_overrides.is_none(), "{name}");
        let last = shader.sources.last().expect("a source").file;
        assert_eq!(last, format!("{}.wgsl", shader.name), "{name}");
    }
}

#[test]
fn a_form_has_the_name_of_its_first_file_or_none_where_it_is_the_only_one() {
    for shader in SHADERS {
        let names: Vec<_> = shader.forms.iter().map(|form| form.name).collect();
        if let [form] = shader.forms {
            assert_eq!((form.name, form.sources.len()), ("", 0), "{}", shader.name);
            continue;
        }
        for form in shader.forms {
            let first = form.sources.first().expect("a source").file;
            assert_eq!(first, format!("{}.wgsl", form.name), "{}", shader.name);
        }
        let different: BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len(), "{}: {names:?}", shader.name);
        // A kernel of several forms is a product, in every strategy that can compute it.
        let pattern = match shader.name {
            "encode" => Pattern::Encode,
            "decode" => Pattern::Decode,
            "backward" | "backward_sgd" | "backward_adam" => Pattern::Backward,
            other => panic!("{other} has forms {names:?}"),
        };
        let strategies = Strategy::ALL.into_iter().filter(|one| one.computes(pattern));
        let wanted: Vec<_> = strategies.map(Strategy::name).chain(["combine"]).collect();
        assert_eq!(names, wanted, "{}", shader.name);
    }
}

/// What asks for subgroups has them on a device that offers wgpu's SUBGROUP and no other: the table
/// of strategies asks for that feature and for subgroups of exactly this size (`strategy.rs`), so
/// a driver without them, FXC's shader model 5.1 included, is never given such a form.
#[test]
fn forms_need_subgroups_of_eight_where_they_say_so_and_nothing_else() {
    let mut with_subgroups = BTreeSet::new();
    for parsed in every_shader() {
        let mut bare = Validator::new(ValidationFlags::all(), capabilities_of(parsed.width));
        let is_plain = bare.validate(&parsed.module).is_ok();
        assert_eq!(is_plain, parsed.form.subgroup_size.is_none(), "{}", parsed.name);
        if is_cooperative(parsed.form) {
            // Four subgroups.
            let sizes = (parsed.form.subgroup_size, parsed.form.workgroup_size);
            assert_eq!(sizes, (Some(32), 128), "{}", parsed.name);
        } else if let Some(size) = parsed.form.subgroup_size {
            assert!(parsed.form.features.contains(wgpu::Features::SUBGROUP), "{}", parsed.name);
            assert_eq!((size, parsed.form.workgroup_size), (8, 8), "{}", parsed.name);
            with_subgroups.insert(parsed.form.name);
        }
    }
    let named: BTreeSet<_> = Strategy::ALL.into_iter().map(Strategy::name).collect();
    let is_meant = |name: &&str| name.ends_with("_subgroup") || *name == "lanes_tall";
    let named: BTreeSet<_> = named.into_iter().filter(is_meant).collect();
    assert_eq!(with_subgroups, named);
}

#[test]
fn workgroup_memory_is_as_described() {
    for parsed in every_shader() {
        let variables = parsed.module.global_variables.iter();
        let bytes: u32 = variables
            .filter(|(_, variable)| variable.space == AddressSpace::WorkGroup)
            .inspect(|(handle, variable)| {
                let used = parsed.use_of(*handle);
                assert!(!used.is_empty(), "{}: {:?} is unused", parsed.name, variable.name);
            })
            .map(|(_, variable)| parsed.type_of(variable).size(parsed.module.to_ctx()))
            .sum();
        assert_eq!(bytes, parsed.form.workgroup_bytes, "{}", parsed.name);
    }
}

/// A binding as the comparison of description and WGSL shows it: group, index, name, kind.
type Row = (u32, u32, String, &'static str);

fn described_bindings(shader: &Shader) -> Vec<Row> {
    let groups = (0..).zip(shader.groups);
    let rows = groups.flat_map(|(group, bindings)| {
        (0..).zip(*bindings).map(move |(index, binding)| {
            let kind = match binding.access {
                Access::Uniform(_) => "uniform",
                Access::Read | Access::ReadValues => "storage, read",
                Access::Write | Access::WriteValues => "storage, read_write",
            };
            (group, index, binding.name.to_owned(), kind)
        })
    });
    rows.collect()
}

fn bindings_in_wgsl(parsed: &Parsed) -> Vec<Row> {
    let row = |(binding, variable): (ResourceBinding, &GlobalVariable)| {
        let kind = match variable.space {
            AddressSpace::Uniform => "uniform",
            AddressSpace::Storage { access } if access == StorageAccess::LOAD => "storage, read",
            AddressSpace::Storage { access }
                if access == StorageAccess::LOAD | StorageAccess::STORE =>
            {
                "storage, read_write"
            }
            _ => "something else",
        };
        let name = variable.name.clone().unwrap_or_default();
        (binding.group, binding.binding, name, kind)
    };
    let mut rows: Vec<_> = parsed.bound().map(row).collect();
    rows.sort();
    rows
}

#[test]
fn bindings_are_as_described() {
    for parsed in every_shader() {
        assert_eq!(bindings_in_wgsl(parsed), described_bindings(parsed.shader), "{}", parsed.name);
    }
}

#[test]
fn every_binding_is_used_and_written_where_it_is_an_output() {
    for parsed in every_shader() {
        for (handle, variable) in parsed.module.global_variables.iter() {
            let used = parsed.use_of(handle);
            let name = variable.name.as_deref().unwrap_or_default();
            let message = format!("{}: {name} is used as {used:?}", parsed.name);
            // Adding up parts is no multiplication: the factors are bound and not read. And the
            // parts are scratch, written by others.
            if parsed.form.name == "combine" {
                let factors = ["weight", "input", "code", "output_delta", "code_delta"];
                assert_eq!(used.is_empty(), factors.contains(&name), "{message}");
                if used.is_empty() || name == "scratch" {
                    continue;
                }
            }
            assert!(!used.is_empty(), "{message}");
            if let AddressSpace::Storage { access } = variable.space {
                let writable = access.contains(StorageAccess::STORE);
                assert_eq!(used.contains(GlobalUse::WRITE), writable, "{message}");
            }
        }
    }
}

/// Bytes from one element to the next of the array at each storage binding, in order.
fn strides(parsed: &Parsed) -> Vec<u32> {
    let mut bound: Vec<_> = parsed.bound().collect();
    bound.sort_by_key(|(place, _)| *place);
    let stride = |(_, variable): (ResourceBinding, &GlobalVariable)| match variable.space {
        AddressSpace::Storage { .. } => match parsed.type_of(variable) {
            TypeInner::Array { stride, .. } => Some(*stride),
            other => panic!("{}: {:?} is no array, but {other:?}", parsed.name, variable.name),
        },
        _ => None,
    };
    bound.into_iter().filter_map(stride).collect()
}

#[test]
fn matrices_are_bound_in_words_and_plain_values_alike_in_all_widths() {
    for (shader, form) in every_form() {
        let [scalar, vector, vector_64] = [Width::Scalar, Width::Vector, Width::Vector64]
            .map(|width| strides(&parsed(shader, form, width)));
        assert_eq!(vector_64, vector, "{}", shader.name);
        if shader.widths().contains(&Width::Mixed) {
            // Two elements of 16 bits to four bytes.
            assert_eq!(strides(&parsed(shader, form, Width::Mixed)), scalar, "{}", shader.name);
        }
        let storage = shader.groups.iter().copied().flatten();
        let storage = storage.filter(|binding| !matches!(binding.access, Access::Uniform(_)));
        for (binding, strides) in storage.zip(scalar.into_iter().zip(vector)) {
            let message = format!("{}: {}", shader.name, binding.name);
            match binding.access {
                Access::Read | Access::Write => assert_eq!(strides, (4, 16), "{message}"),
                _ => assert_eq!(strides.0, strides.1, "{message}"),
            }
        }
    }
}

/// So that an odd bias leaves a weight its 16-byte words.
#[test]
fn the_first_parameter_of_a_set_alone_decides_the_width() {
    for name in ["sgd", "adam"] {
        let shader = SHADERS.iter().find(|shader| shader.name == name).expect("a shader");
        let bindings = shader.groups.iter().copied().flatten();
        let in_words = bindings.filter(|b| matches!(b.access, Access::Read | Access::Write));
        let names: Vec<_> = in_words.map(|binding| binding.name).collect();
        assert_eq!(names, ["gradient_0", "value"], "{name}");
        // With second moments, as many as WebGPU promises.
        assert_eq!(shader.storage_buffers(), if name == "adam" { 8 } else { 7 }, "{name}");
    }
}

/// Name, offset and size of each field, and the size of the whole.
type Layout = (Vec<(String, u32, u32)>, u32);

fn described_uniform(fields: &[Field]) -> Layout {
    let end = fields.last().map_or(0, |field| field.offset + field.size);
    let fields =
        fields.iter().map(|field| (field.name.to_owned(), field.offset as u32, field.size as u32));
    (fields.collect(), end.next_multiple_of(16) as u32)
}

fn uniform_in_wgsl(parsed: &Parsed, variable: &GlobalVariable) -> Layout {
    let TypeInner::Struct { members, span } = parsed.type_of(variable) else {
        panic!("{}: {:?} is no struct", parsed.name, variable.name);
    };
    let field = |member: &naga::StructMember| {
        let size = parsed.module.types[member.ty].inner.size(parsed.module.to_ctx());
        (member.name.clone().unwrap_or_default(), member.offset, size)
    };
    (members.iter().map(field).collect(), *span)
}

#[test]
fn uniforms_have_the_fields_of_their_rust_structs() {
    for parsed in every_shader() {
        for (place, variable) in parsed.bound() {
            let binding = &parsed.shader.groups[place.group as usize][place.binding as usize];
            if let Access::Uniform(fields) = binding.access {
                let (wgsl, rust) = (uniform_in_wgsl(parsed, variable), described_uniform(fields));
                assert_eq!(wgsl, rust, "{}: {}", parsed.name, binding.name);
                // What is in Rust's struct is sent as it is, so it must be complete.
                let end = fields.last().map_or(0, |field| field.offset + field.size);
                assert_eq!(end as u32, wgsl.1, "{}: {}", parsed.name, binding.name);
            }
        }
    }
}

/// The fields that Rust writes as f32; what else has four bytes, it writes as u32.
const FLOATS: &[&str] = &[
    "scale",
    "inverse",
    "growth",
    "backoff",
    "minimum",
    "maximum",
    "deviation",
    "learning_rate",
    "momentum",
    "weight_decay",
    "beta1",
    "beta2",
    "one_minus_beta1",
    "one_minus_beta2",
    "log_beta1",
    "log_beta2",
    "epsilon",
    "decoupled_decay",
];

#[test]
fn uniforms_have_the_types_of_their_rust_structs() {
    let mut floats = BTreeSet::new();
    for parsed in every_shader() {
        let uniforms = parsed.bound().filter(|(_, v)| v.space == AddressSpace::Uniform);
        for (_, variable) in uniforms {
            let TypeInner::Struct { members, .. } = parsed.type_of(variable) else {
                panic!("{}: {:?} is no struct", parsed.name, variable.name);
            };
            for member in members {
                let name = member.name.as_deref().unwrap_or_default();
                let message = format!("{}: {name}", parsed.name);
                match &parsed.module.types[member.ty].inner {
                    TypeInner::Scalar(Scalar::F32) => {
                        assert!(FLOATS.contains(&name), "{message} is f32");
                        floats.insert(name.to_owned());
                    }
                    TypeInner::Scalar(Scalar::U32) => {
                        assert!(!FLOATS.contains(&name), "{message} is u32");
                    }
                    TypeInner::Struct { members, span: 16 } => {
                        let view = ["offset", "row_stride", "rows", "columns"];
                        assert_eq!(counts(parsed, members), view, "{message}");
                    }
                    TypeInner::Struct { members, span: 32 } => {
                        let product = [
                            "rows",
                            "columns",
                            "depth",
                            "span",
                            "tiles",
                            "groups",
                            "groups_wide",
                            "parts",
                        ];
                        assert_eq!(counts(parsed, members), product, "{message}");
                    }
                    other => panic!("{message} is {other:?}"),
                }
            }
        }
    }
    assert_eq!(floats, FLOATS.iter().map(|name| (*name).to_owned()).collect());
}

/// The names of a struct's members, which are u32 one after the other.
fn counts<'a>(parsed: &Parsed, members: &'a [naga::StructMember]) -> Vec<&'a str> {
    let name = |(index, member): (u32, &'a naga::StructMember)| {
        let name = member.name.as_deref().unwrap_or_default();
        let ty = &parsed.module.types[member.ty].inner;
        assert_eq!(*ty, TypeInner::Scalar(Scalar::U32), "{}: {name}", parsed.name);
        assert_eq!(member.offset, 4 * index, "{}: {name}", parsed.name);
        name
    };
    (0..).zip(members).map(name).collect()
}

/// The value of a field in the bytes of a uniform, by its WGSL type.
fn field_in(bytes: &[u8], parsed: &Parsed, member: &naga::StructMember) -> f64 {
    let at = member.offset as usize;
    let bytes = bytes[at..at + 4].try_into().expect("four bytes");
    match parsed.module.types[member.ty].inner {
        TypeInner::Scalar(Scalar::F32) => f32::from_le_bytes(bytes).into(),
        TypeInner::Scalar(Scalar::U32) => u32::from_le_bytes(bytes).into(),
        ref other => panic!("{}: {:?} is {other:?}", parsed.name, member.name),
    }
}

#[test]
fn settings_arrive_in_the_types_that_the_wgsl_reads() {
    let sgd = SgdSettings::new(0.25).with_momentum(0.75).with_nesterov(true).with_weight_decay(0.5);
    let adam = AdamSettings { epsilon: 0.125, weight_decay: 0.0625, ..AdamSettings::adamw(0.5) };
    let adam = adam.with_betas([0.25, 0.75]);
    let sgd: (&str, _, &[(&str, f64)]) = (
        "sgd",
        sgd.to_uniform(),
        &[("learning_rate", 0.25), ("momentum", 0.75), ("weight_decay", 0.5), ("nesterov", 1.0)],
    );
    let adam: (&str, _, &[(&str, f64)]) = (
        "adam",
        adam.to_uniform(),
        &[
            ("learning_rate", 0.5),
            ("beta1", 0.25),
            ("beta2", 0.75),
            ("one_minus_beta1", 0.75),
            ("one_minus_beta2", 0.25),
            ("log_beta1", (0.25f64.ln() as f32).into()),
            ("log_beta2", (0.75f64.ln() as f32).into()),
            ("epsilon", 0.125),
            // The one or the other.
            ("weight_decay", 0.0),
            ("decoupled_decay", 0.0625),
            ("padding_0", 0.0),
            ("padding_1", 0.0),
        ],
    );
    for (name, bytes, want) in [sgd, adam] {
        let bytes = bytes.expect("valid settings");
        for parsed in every_shader().iter().filter(|parsed| parsed.shader.name == name) {
            let mut bound = parsed.bound();
            let found = bound.find(|(_, variable)| variable.name.as_deref() == Some("settings"));
            let TypeInner::Struct { members, span } = parsed.type_of(found.expect("settings").1)
            else {
                panic!("{name}: the settings are no struct");
            };
            assert_eq!(bytes.len(), *span as usize, "{name}");
            let got: Vec<_> = members
                .iter()
                .map(|m| (m.name.as_deref().unwrap_or_default(), field_in(&bytes, parsed, m)))
                .collect();
            assert_eq!(got, want, "{}", parsed.name);
        }
    }
}

#[test]
fn a_workgroup_takes_the_share_that_rust_counts_with() {
    let text = |file: &str| {
        let found = SOURCES.iter().find(|source| source.file == file);
        found.unwrap_or_else(|| panic!("no {file}")).text
    };
    let quads = format!(" * {}u + local;", shares::QUADS);
    let columns = format!(" * {}u + local % 16u * 4u;", shares::BIAS_COLUMNS);
    for (file, wanted) in [
        ("activation_gradient.wgsl", &quads),
        ("noise.wgsl", &quads),
        ("parameter_set.wgsl", &quads),
        ("column_sums.wgsl", &columns),
    ] {
        assert!(text(file).contains(wanted), "{file} has no \"{wanted}\"");
    }
    // An invocation takes one quad.
    for name in ["activation_gradient", "noise", "sgd", "adam"] {
        let shader = SHADERS.iter().find(|shader| shader.name == name).expect("a shader");
        assert_eq!(shader.forms[0].workgroup_size, shares::QUADS, "{name}");
    }
}

/// `errors.rs` holds the same numbers against the workgroups that Rust counts.
#[test]
fn a_workgroup_takes_the_tile_and_step_that_rust_counts_with() {
    let is_strategy = |parsed: &&Parsed| !["", "combine"].contains(&parsed.form.name);
    for parsed in every_shader().iter().filter(is_strategy) {
        let Parsed { form, name, .. } = parsed;
        let share = Share::of(form.name);
        assert_eq!(parsed.constant("TILE_COLUMNS"), Some(share.columns), "{name}");
        assert_eq!(parsed.constant("INVOCATIONS"), Some(form.workgroup_size), "{name}");
        // Rows are a constant, or one override that another one sets.
        match parsed.constant("TILE_ROWS") {
            Some(rows) => assert_eq!([rows], share.rows, "{name}"),
            None => {
                assert_eq!(parsed.derived("TILE_ROWS"), "SKINNY_ROWS", "{name}");
                let mut overrides = form.overrides.iter();
                let rows = overrides.find(|constant| constant.name == "SKINNY_ROWS");
                let mut rows = rows.expect("SKINNY_ROWS").values.to_vec();
                rows.sort();
                assert_eq!(rows, share.rows, "{name}");
            }
        }
        // How far a loop goes along the reduction; of skinny_subgroup, which has no loop, all lanes.
        let depth_lanes = parsed.constant("DEPTH_LANES").unwrap_or(1);
        let (line, step) = if form.name.starts_with("tile") {
            let quads = parsed.constant("TILE").map(|tile| tile / 4);
            assert_eq!(parsed.constant("QUADS"), quads, "{name}");
            ("k += DEPTH)", parsed.constant("DEPTH").expect("DEPTH"))
        } else if form.name.starts_with("lanes") {
            ("k += 4u)", 4)
        } else if form.name == "cooperative" {
            ("k += DEPTH)", parsed.constant("DEPTH").expect("DEPTH"))
        } else if form.name == "skinny_subgroup" {
            ("let k = task.begin + 8u * local;", 8 * form.workgroup_size)
        } else {
            ("k += 4u * DEPTH_LANES)", 4 * depth_lanes)
        };
        assert_eq!(step, share.step, "{name}");
        let last = form.sources.last().expect("a source");
        assert!(last.text.contains(line), "{} has no \"{line}\"", last.file);
    }
    assert_eq!(SHARES.len(), Strategy::ALL.len());
}

#[test]
fn overrides_are_as_described() {
    for parsed in every_shader() {
        let described: Vec<_> = parsed.shader.overrides_in(parsed.form).collect();
        let (mut in_wgsl, mut of_elements) = (BTreeSet::new(), BTreeSet::new());
        for (_, constant) in parsed.module.overrides.iter() {
            let name = constant.name.clone().unwrap_or_default();
            let message = format!("{}: {name}", parsed.name);
            let ty = &parsed.module.types[constant.ty].inner;
            assert_eq!(*ty, TypeInner::Scalar(Scalar::U32), "{message}");
            assert!(constant.id.is_none(), "{message} is set by an id");
            let default = constant.init.unwrap_or_else(|| panic!("{message} has no default"));
            match parsed.module.global_expressions[default] {
                naga::Expression::Literal(Literal::U32(value)) => {
                    let mut elements = parsed.shader.elements.iter();
                    if elements.any(|element| element.constant == name) {
                        assert_eq!(value, 0, "{message} is not f32 by default");
                        of_elements.insert(name);
                        continue;
                    }
                    let rust = described.iter().find(|described| described.name == name);
                    let of_rust = rust.map(|described| described.values[0]);
                    // Of a second pass there is one way, the default.
                    let is_second = parsed.form.name == "combine" && name == "PASS";
                    let wanted = if is_second { None } else { Some(value) };
                    assert_eq!(of_rust, wanted, "{message}'s default {value}");
                    in_wgsl.extend(rust.map(|_| name));
                }
                // It follows another one.
                naga::Expression::Override(_) => assert_eq!(name, "TILE_ROWS", "{message}"),
                ref other => panic!("{message} is {other:?}"),
            }
        }
        let names = described.iter().map(|constant| constant.name.to_owned());
        assert_eq!(in_wgsl, names.collect(), "{}", parsed.name);
        let elements = parsed.shader.elements.iter();
        let names = elements.map(|element| element.constant.to_owned());
        assert_eq!(of_elements, names.collect(), "{}", parsed.name);
        assert_eq!(in_wgsl.len(), described.len(), "{}", parsed.name);
    }
}

#[test]
fn the_values_of_overrides_are_numbered_as_in_wgsl() {
    let activation = Activation::ALL.map(|f| f.name().to_uppercase().replace('-', "_"));
    let activation: Vec<_> = activation.iter().map(String::as_str).collect();
    let epilogue = ["ACTIVATE", "SLOPE", "SQUARED_ERROR", "CROSS_ENTROPY"];
    for parsed in every_shader() {
        let message = &parsed.name;
        for constant in parsed.shader.overrides_in(parsed.form) {
            let names = match constant.name {
                "ACTIVATION" => &activation[..],
                // encode ends in no loss.
                "EPILOGUE" if parsed.shader.name == "encode" => &epilogue[..2],
                "EPILOGUE" => &epilogue,
                "PASS" => &["WHOLE", "PARTIAL"],
                "KIND" => &["MASKING", "GAUSSIAN"],
                "GIVEN" => {
                    assert_eq!(constant.values, [0, 1], "{message}");
                    continue;
                }
                // A number of rows.
                "SKINNY_ROWS" => continue,
                other => panic!("{message}: this test does not know {other}"),
            };
            let numbers: Vec<_> = (0..names.len() as u32).collect();
            assert_eq!(constant.values, numbers, "{message}: {}", constant.name);
            for (value, name) in numbers.into_iter().zip(names) {
                assert_eq!(parsed.constant(name), Some(value), "{message}: {name}");
            }
        }
        assert_eq!(parsed.constant("WIDTH"), Some(parsed.width.elements()), "{message}");
        for (code, element) in (0..).zip(ElementType::ALL) {
            // The code that Rust gives is found out by elements.rs.
            let name = element.to_string().to_uppercase();
            assert_eq!(parsed.constant(&name), Some(code), "{message}: {name}");
        }
    }
}

/// All combinations, but for those of a constant which only goes with the defaults of the kernel's.
#[test]
fn specialisations_are_all_combinations() {
    for (shader, form) in every_form() {
        let what = format!("{} {}", shader.name, form.name);
        let specialisations = shader.specialisations(form);
        let product = |overrides: &mut dyn Iterator<Item = &Override>| -> usize {
            overrides.map(|constant| constant.values.len()).product()
        };
        let of_kernel = product(&mut shader.overrides.iter());
        let alone: Vec<_> = form.overrides.iter().filter(|constant| constant.alone).collect();
        let free = product(&mut form.overrides.iter().filter(|constant| !constant.alone));
        // With the default of the lone one, all; with its other values, only the defaults.
        let lone = product(&mut alone.iter().copied()) - 1;
        let count = of_kernel * free + lone * free;
        let different: BTreeSet<_> = specialisations.iter().map(|s| format!("{s:?}")).collect();
        assert_eq!((specialisations.len(), different.len()), (count, count), "{what}");

        let names: Vec<_> = shader.overrides_in(form).map(|constant| constant.name).collect();
        for values in specialisations {
            let given: Vec<_> = values.iter().map(|(name, _)| *name).collect();
            assert_eq!(given, names, "{what}");
            let differs = |overrides: &[Override], only_alone: bool| {
                overrides.iter().any(|constant| {
                    let given = values.iter().find(|(name, _)| *name == constant.name);
                    let is_default = given.unwrap().1 == f64::from(constant.values[0]);
                    !is_default && (constant.alone || !only_alone)
                })
            };
            let clash = differs(form.overrides, true) && differs(shader.overrides, false);
            assert!(!clash, "{what}: {values:?}");
        }
    }
}

#[test]
fn valid_with_the_defaults_of_the_overrides() {
    for parsed in every_shader() {
        parsed.specialised(&[]);
    }
}

/// Each with the runtime checks. Without them there is only less code, so then the defaults and what
/// differs from them in one constant will do. There are thousands, so with a thread for each core.
#[test]
fn every_specialisation_translates_to_every_language_of_wgpu() {
    let specialisations: Vec<_> = every_shader()
        .iter()
        .flat_map(|parsed| {
            let of_form = parsed.shader.specialisations(parsed.form);
            let of_form = of_form.into_iter().map(move |values| (parsed, values));
            of_form.flat_map(|(parsed, values)| with_elements(parsed, values))
        })
        .collect();
    let next = AtomicUsize::new(0);
    let translate_all = || {
        while let Some((parsed, values)) = specialisations.get(next.fetch_add(1, Relaxed)) {
            translate(parsed, values);
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(translate_all);
        }
    });
}

/// A specialisation with each type of all elements, of which f32 alone has no mixed words. Types are
/// chosen where a matrix is read and written, and nothing else depends on them, so that all of a kernel's
/// matrices have one at a time; and it is chosen with the defaults of the other constants alone.
fn with_elements<'a>(
    parsed: &'a Parsed,
    values: Vec<(&'static str, f64)>,
) -> Vec<(&'a Parsed, Vec<(&'static str, f64)>)> {
    if parsed.width != Width::Mixed {
        return vec![(parsed, values)];
    }
    let differ = parsed.shader.overrides_in(parsed.form).zip(&values);
    let others = differ.filter(|(one, (_, value))| f64::from(one.values[0]) != *value).count();
    let codes: &[f64] = if others < 2 { &[1.0, 2.0] } else { &[] };
    let of_type = |code: &f64| {
        let elements = parsed.shader.elements.iter().map(|element| (element.constant, *code));
        (parsed, values.iter().copied().chain(elements).collect())
    };
    codes.iter().map(of_type).collect()
}

fn translate(parsed: &Parsed, values: &[(&str, f64)]) {
    let (module, info) = parsed.specialised(values);
    let subgroups = parsed.form.subgroup_size.is_some();
    // The library asks Vulkan alone for 64-bit integers.
    let is_for_vulkan = parsed.width == Width::Vector64;
    let languages = Language::ALL.iter().filter(|one| {
        (!is_for_vulkan || matches!(one, Language::Spirv))
            && (!subgroups || one.has_subgroups())
            && !(is_cooperative(parsed.form) && one.is_hlsl())
    });
    let default = |name: &str| {
        let mut overrides = parsed.shader.overrides_in(parsed.form);
        overrides.find(|constant| constant.name == name).map(|one| f64::from(one.values[0]))
    };
    let differs = |(name, value): &&(&str, f64)| default(name).is_some_and(|own| own != *value);
    let others = values.iter().filter(differs).count();
    let settings: &[bool] = if others < 2 { &[true, false] } else { &[true] };
    for (language, &checks) in languages.flat_map(|one| settings.iter().map(move |s| (one, s))) {
        let what = format!("{} {values:?} to {language:?}, checks {checks}", parsed.name);
        let length = language
            .translate(&module, &info, parsed.shader.name, checks, subgroups)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(length > 0, "{what}: nothing was written");
    }
}

#[test]
fn barriers_stand_in_uniform_control_flow() {
    for parsed in every_shader() {
        assert_eq!(uniformity::violations(&parsed.module), [""; 0], "{}", parsed.name);
    }
}

/// Bodies of an entry point in which all invocations reach every barrier together.
const GOOD_BARRIERS: &[&str] = &[
    "workgroupBarrier();",
    "if local < 3u { values[local] = 1u; } workgroupBarrier();",
    "if group.x > 3u { return; } workgroupBarrier();",
    "if parameter == 3u { workgroupBarrier(); }",
    "for (var i = 0u; i < parameter; i++) { workgroupBarrier(); }",
    "for (var i = local; i < 9u; i++) { values[i] = i; } workgroupBarrier();",
    "loop { if group.y == 1u { break; } workgroupBarrier(); }",
    "switch group.x { case 0u: { workgroupBarrier(); } default: {} }",
    "if pick(local) > 1u { values[0] = 1u; } wait();",
    "if pick(group.x) > 1u { wait(); }",
    "var n = group.x; n += 1u; if n > 1u { workgroupBarrier(); }",
    "let all = workgroupUniformLoad(&shared_one); if all > 1u { workgroupBarrier(); }",
    "if group.x > 3u { values[local] = subgroupBroadcast(local, 1u); }",
];

/// Bodies in which some invocations may reach a barrier without the others.
const BAD_BARRIERS: &[&str] = &[
    "if local < 3u { workgroupBarrier(); }",
    "if local < 3u { return; } workgroupBarrier();",
    "let i = local / 2u; if i == 0u { storageBarrier(); }",
    "switch local { case 0u: { workgroupBarrier(); } default: {} }",
    "for (var i = local; i < 9u; i++) { workgroupBarrier(); }",
    "loop { if local == 1u { break; } workgroupBarrier(); }",
    "for (var i = 0u; i < 9u; i++) { if i == local { continue; } workgroupBarrier(); }",
    "for (var i = 0u; i < 9u; i++) { workgroupBarrier(); if i == local { break; } }",
    "if values[0] > 1u { workgroupBarrier(); }",
    "if shared_one > 1u { workgroupBarrier(); }",
    "var n = 1u; if local > 1u { n = 2u; } if n > 1u { workgroupBarrier(); }",
    "count = group.x; if count > 1u { workgroupBarrier(); }",
    "var n = 1u; put(&n, local); if n > 1u { workgroupBarrier(); }",
    "if local < 3u { wait(); }",
    "if pick(local) > 1u { wait(); }",
    "let all = workgroupUniformLoad(&shared_one); if all + local > 1u { wait(); }",
    "if local > 1u { let all = workgroupUniformLoad(&shared_one); values[0] = all; }",
    "if local > 1u { values[local] = subgroupBroadcast(local, 1u); }",
    "for (var i = local; i < 9u; i++) { values[i] = subgroupAdd(i); }",
    "if subgroupBroadcast(local, 1u) == 1u { workgroupBarrier(); }",
];

/// The bodies above, and whether they are good.
fn barriers() -> impl Iterator<Item = (bool, &'static str)> {
    let good = GOOD_BARRIERS.iter().map(|body| (true, *body));
    good.chain(BAD_BARRIERS.iter().map(|body| (false, *body)))
}

fn with_barriers(body: &str) -> String {
    format!(
        "@group(0) @binding(0) var<uniform> parameter: u32;
         @group(0) @binding(1) var<storage, read_write> values: array<u32>;
         var<workgroup> shared_one: u32;
         var<private> count: u32;
         fn pick(n: u32) -> u32 {{ if n > 2u {{ return 1u; }} return 2u; }}
         fn put(n: ptr<function, u32>, value: u32) {{ *n = value; }}
         fn wait() {{ workgroupBarrier(); }}
         @compute @workgroup_size(64)
         fn main(
             @builtin(workgroup_id) group: vec3<u32>,
             @builtin(local_invocation_index) local: u32,
         ) {{ {body} }}"
    )
}

#[test]
fn the_uniformity_check_tells_good_barriers_from_bad() {
    for (good, body) in barriers() {
        let source = with_barriers(body);
        let module = naga::front::wgsl::parse_str(&source)
            .unwrap_or_else(|error| panic!("{body}: {}", error.emit_to_string(&source)));
        let mut validator = Validator::new(ValidationFlags::all(), Capabilities::SUBGROUP);
        validator.validate(&module).expect("naga lets it pass");
        let violations = uniformity::violations(&module);
        assert_eq!(violations.is_empty(), good, "{body}: {violations:?}");
    }
}

/// Chrome's WGSL compiler, where it is installed: a second parser, with WGSL's own uniformity analysis.
struct Tint;

impl Tint {
    fn find() -> Option<Self> {
        let help = Command::new("tint").arg("--help").output().ok()?;
        let help = [help.stdout, help.stderr].concat();
        String::from_utf8_lossy(&help).to_lowercase().contains("wgsl").then_some(Self)
    }

    /// What Tint says against a shader.
    fn check(&self, name: &str, source: &str) -> Result<(), String> {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.wgsl"));
        std::fs::write(&file, source).expect("a file for tint");
        let run = Command::new("tint").args(["--format", "wgsl"]).arg(&file).output();
        std::fs::remove_file(&file).expect("the file for tint");
        let run = run.expect("tint runs");
        if run.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&run.stderr).into_owned())
        }
    }
}

const ENABLE_SUBGROUPS: &str = "enable subgroups;\n";

#[test]
fn tint_agrees() {
    let Some(tint) = Tint::find() else {
        println!("NOT RUN: there is no `tint` on PATH");
        return;
    };
    for (shader, form) in every_form().filter(|(_, form)| !is_cooperative(form)) {
        // WGSL itself has no 64-bit integers.
        let widths = shader.widths().iter().filter(|width| **width != Width::Vector64);
        for &width in widths {
            let name = format!("{}_{}_{width:?}", shader.name, form.name);
            // naga knows no such line, tint no subgroups without it.
            let enable = if form.subgroup_size.is_some() { ENABLE_SUBGROUPS } else { "" };
            let source = format!("{enable}{}", shader.source(width, form));
            tint.check(&name, &source).unwrap_or_else(|words| panic!("{name}: {words}"));
        }
    }
    for (index, (good, body)) in barriers().enumerate() {
        let source = format!("{ENABLE_SUBGROUPS}{}", with_barriers(body));
        let result = tint.check(&format!("barrier_{index}"), &source);
        assert_eq!(result.is_ok(), good, "{body}: {result:?}");
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn every_file_is_a_source_and_every_source_is_used() {
    let entries = std::fs::read_dir(folder("shaders")).expect("shaders/");
    let files: BTreeSet<_> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .collect();
    let sources = SOURCES.iter().map(|source| source.file.to_owned()).collect();
    assert_eq!(files, sources);
    for source in SOURCES {
        let uses = |(shader, form): (&Shader, &Form)| {
            shader.widths().iter().any(|width| shader.source(*width, form).contains(source.text))
        };
        assert!(every_form().any(uses), "no shader uses {}", source.file);
    }
}

/// The comment at the top of a file, its lines joined.
fn header(source: &Source) -> String {
    let lines = source.text.lines().map_while(|line| line.strip_prefix("//"));
    lines.map(str::trim).collect::<Vec<_>>().join(" ")
}

/// The file names with this ending in some words.
fn files_named<'a>(words: &'a str, ending: &str) -> Vec<&'a str> {
    let outside = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.');
    let words = words.split(outside).map(|word| word.trim_end_matches('.'));
    let ending = Some(OsStr::new(ending));
    words.filter(|word| Path::new(word).extension() == ending).collect()
}

#[test]
fn every_header_starts_with_its_file_name_and_names_tests_that_exist() {
    for source in SOURCES {
        let header = header(source);
        let start = format!("{} — ", source.file);
        assert!(header.starts_with(&start), "{}: {header}", source.file);
        let (_, tests) = header
            .split_once(" Tests: ")
            .unwrap_or_else(|| panic!("{} names no tests", source.file));
        let named = files_named(tests, "rs");
        assert!(!named.is_empty() || tests.contains("every numeric test"), "{}", source.file);
        for test in named {
            assert!(folder("tests").join(test).is_file(), "{}: no tests/{test}", source.file);
        }
    }
}

/// Files of which one will do where a header names them.
const ALTERNATIVES: &[&[&str]] = &[
    &["scalar.wgsl", "vector.wgsl", "vector_64.wgsl", "mixed.wgsl"],
    &["tile_32.wgsl", "tile_64.wgsl", "tile_128.wgsl"],
    &["lanes_subgroup.wgsl", "lanes_tall.wgsl", "lanes_alone.wgsl"],
    &["lanes_rows.wgsl", "lanes_alone.wgsl"],
    &["skinny_group.wgsl", "skinny_lanes.wgsl"],
];

#[test]
fn what_a_header_needs_goes_with_it() {
    for (shader, form) in every_form() {
        let files = form.sources.iter().chain(shader.sources);
        let files: Vec<_> = files.chain([&SCALAR]).collect();
        for source in &files {
            let header = header(source);
            let needs = header.split_once(" Needs ").map_or("", |(_, needs)| needs);
            let needs = needs.split_once(" Tests: ").map_or(needs, |(needs, _)| needs);
            for needed in files_named(needs, "wgsl") {
                let alternatives = ALTERNATIVES.iter().find(|group| group.contains(&needed));
                let enough = |file: &str| {
                    file == needed || alternatives.is_some_and(|group| group.contains(&file))
                };
                let is_there = files.iter().any(|other| enough(other.file));
                let what = format!("{} {}", shader.name, form.name);
                assert!(is_there, "{what}: {} needs {needed}", source.file);
            }
        }
    }
}
