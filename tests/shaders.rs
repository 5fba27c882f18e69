//! The WGSL against its description in `kernels::SHADERS`, and through naga to every backend. No GPU.

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

use naga::back::pipeline_constants::process_overrides;
use naga::valid::{Capabilities, GlobalUse, ModuleInfo, ValidationFlags, Validator};
use naga::{
    AddressSpace, GlobalVariable, Handle, Literal, Module, ResourceBinding, Scalar, ShaderStage,
    StorageAccess, TypeInner,
};
use tied_linear::Activation;
use tied_linear::kernels::{AdamSettings, SHADERS, SgdSettings};
use tied_linear::shader::{Access, Field, SOURCES, Shader, Source, Width};

use translation::Language;

/// A shader in one width, parsed and valid.
struct Parsed {
    shader: &'static Shader,
    width: Width,
    /// Shader and width, for messages.
    name: String,
    module: Module,
    info: ModuleInfo,
}

fn every_shader() -> Vec<Parsed> {
    let both = |shader: &&'static Shader| Width::ALL.map(|width| parsed(shader, width));
    SHADERS.iter().flat_map(both).collect()
}

fn parsed(shader: &'static Shader, width: Width) -> Parsed {
    let name = format!("{} {width:?}", shader.name);
    let source = shader.source(width);
    let module = naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(&source)));
    let info = validator()
        .validate(&module)
        .unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(&source)));
    Parsed { shader, width, name, module, info }
}

/// A validator for a device without any optional feature: no f16, no subgroups, nothing.
fn validator() -> Validator {
    Validator::new(ValidationFlags::all(), Capabilities::empty())
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
        let info = validator()
            .validate_resolved_overrides(&module)
            .unwrap_or_else(|error| panic!("{} {values:?}: {error:?}", self.name));
        (module, info)
    }
}

#[test]
fn one_entry_point_named_like_shader_and_file() {
    for parsed in every_shader() {
        let Parsed { shader, name, .. } = &parsed;
        let [entry] = &parsed.module.entry_points[..] else {
            panic!("{name}: {} entry points", parsed.module.entry_points.len());
        };
        assert_eq!(entry.name, shader.name, "{name}");
        assert_eq!(entry.stage, ShaderStage::Compute, "{name}");
        assert_eq!(entry.workgroup_size, [shader.workgroup_size, 1, 1], "{name}");
        assert!(entry.workgroup_size_overrides.is_none(), "{name}");
        let last = shader.sources.last().expect("a source").file;
        assert_eq!(last, format!("{}.wgsl", shader.name), "{name}");
    }
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
        assert_eq!(bytes, parsed.shader.workgroup_bytes, "{}", parsed.name);
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
        assert_eq!(bindings_in_wgsl(&parsed), described_bindings(parsed.shader), "{}", parsed.name);
    }
}

#[test]
fn every_binding_is_used_and_written_where_it_is_an_output() {
    for parsed in every_shader() {
        for (handle, variable) in parsed.module.global_variables.iter() {
            let used = parsed.use_of(handle);
            let message = format!("{}: {:?} is used as {used:?}", parsed.name, variable.name);
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
fn matrices_are_bound_in_words_and_plain_values_alike_in_both_widths() {
    for shader in SHADERS {
        let [scalar, vector] = Width::ALL.map(|width| strides(&parsed(shader, width)));
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
        assert_eq!(names, ["gradient_0", "value_0"], "{name}");
        assert_eq!(shader.storage_buffers(), 7, "{name}");
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
                let (wgsl, rust) = (uniform_in_wgsl(&parsed, variable), described_uniform(fields));
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
                        let fields: Vec<_> = members
                            .iter()
                            .map(|field| {
                                let ty = &parsed.module.types[field.ty].inner;
                                assert_eq!(*ty, TypeInner::Scalar(Scalar::U32), "{message}");
                                (field.offset, field.name.as_deref().unwrap_or_default())
                            })
                            .collect();
                        let view = [(0, "offset"), (4, "row_stride"), (8, "rows"), (12, "columns")];
                        assert_eq!(fields, view, "{message}");
                    }
                    other => panic!("{message} is {other:?}"),
                }
            }
        }
    }
    assert_eq!(floats, FLOATS.iter().map(|name| (*name).to_owned()).collect());
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
        let shader = SHADERS.iter().find(|shader| shader.name == name).expect("a shader");
        for parsed in Width::ALL.map(|width| parsed(shader, width)) {
            let mut bound = parsed.bound();
            let found = bound.find(|(_, variable)| variable.name.as_deref() == Some("settings"));
            let TypeInner::Struct { members, span } = parsed.type_of(found.expect("settings").1)
            else {
                panic!("{name}: the settings are no struct");
            };
            assert_eq!(bytes.len(), *span as usize, "{name}");
            let got: Vec<_> = members
                .iter()
                .map(|m| (m.name.as_deref().unwrap_or_default(), field_in(&bytes, &parsed, m)))
                .collect();
            assert_eq!(got, want, "{}", parsed.name);
        }
    }
}

#[test]
fn a_workgroup_takes_the_share_that_rust_counts_with() {
    let on_tiles = ["encode", "decode", "backward"];
    for parsed in every_shader().iter().filter(|parsed| on_tiles.contains(&parsed.shader.name)) {
        assert_eq!(parsed.constant("TILE"), Some(shares::TILE), "{}", parsed.name);
        assert_eq!(parsed.constant("STEP"), Some(shares::STEP), "{}", parsed.name);
        // Rust counts in slices of this length where it cuts a batch into parts.
        assert_eq!(parsed.constant("DEPTH"), Some(16), "{}", parsed.name);
    }
    let text = |file: &str| {
        let found = SOURCES.iter().find(|source| source.file == file);
        found.unwrap_or_else(|| panic!("no {file}")).text
    };
    let quads = format!(" * {}u + local;", shares::QUADS);
    let columns = format!(" * {}u + local % 16u * 4u;", shares::BIAS_COLUMNS);
    for (file, wanted) in [
        ("activation_gradient.wgsl", &quads),
        ("parameter_set.wgsl", &quads),
        ("column_sums.wgsl", &columns),
    ] {
        assert!(text(file).contains(wanted), "{file} has no \"{wanted}\"");
    }
    // An invocation takes one quad.
    for name in ["activation_gradient", "sgd", "adam"] {
        let shader = SHADERS.iter().find(|shader| shader.name == name).expect("a shader");
        assert_eq!(shader.workgroup_size, shares::QUADS, "{name}");
    }
}

#[test]
fn overrides_are_as_described() {
    for parsed in every_shader() {
        let in_wgsl: BTreeSet<_> = parsed
            .module
            .overrides
            .iter()
            .map(|(_, constant)| {
                let name = constant.name.clone().unwrap_or_default();
                let ty = &parsed.module.types[constant.ty].inner;
                assert_eq!(*ty, TypeInner::Scalar(Scalar::U32), "{}: {name}", parsed.name);
                assert!(constant.init.is_some(), "{}: {name} has no default", parsed.name);
                assert!(constant.id.is_none(), "{}: {name} is set by an id", parsed.name);
                name
            })
            .collect();
        let overrides = parsed.shader.overrides.iter();
        let described = overrides.map(|constant| constant.name.to_owned()).collect();
        assert_eq!(in_wgsl, described, "{}", parsed.name);
    }
}

#[test]
fn the_values_of_overrides_are_numbered_as_in_wgsl() {
    let activation = Activation::ALL.map(|f| f.name().to_uppercase().replace('-', "_"));
    let epilogue = ["ACTIVATE", "SLOPE"].map(str::to_owned);
    for parsed in every_shader() {
        for constant in parsed.shader.overrides {
            let names = match constant.name {
                "ACTIVATION" => &activation[..],
                "EPILOGUE" => &epilogue[..],
                other => panic!("{}: this test does not know {other}", parsed.name),
            };
            assert_eq!(names.len(), constant.values as usize, "{}", parsed.name);
            for (value, name) in (0..).zip(names) {
                assert_eq!(parsed.constant(name), Some(value), "{}: {name}", parsed.name);
            }
        }
        assert_eq!(parsed.constant("WIDTH"), Some(parsed.width.elements()), "{}", parsed.name);
    }
}

#[test]
fn specialisations_are_all_combinations() {
    for shader in SHADERS {
        let specialisations = shader.specialisations();
        let values: u32 = shader.overrides.iter().map(|constant| constant.values).product();
        let different: BTreeSet<_> = specialisations.iter().map(|s| format!("{s:?}")).collect();
        assert_eq!(different.len() as u32, values, "{}", shader.name);
        assert_eq!(specialisations.len() as u32, values, "{}", shader.name);
    }
}

#[test]
fn valid_with_the_defaults_of_the_overrides() {
    for parsed in every_shader() {
        parsed.specialised(&[]);
    }
}

#[test]
fn every_specialisation_translates_to_every_language_of_wgpu() {
    for parsed in every_shader() {
        for values in parsed.shader.specialisations() {
            let (module, info) = parsed.specialised(&values);
            for (language, checks) in Language::ALL.iter().flat_map(|l| [(l, true), (l, false)]) {
                let what = format!("{} {values:?} to {language:?}, checks {checks}", parsed.name);
                let length = language
                    .translate(&module, &info, parsed.shader.name, checks)
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(length > 0, "{what}: nothing was written");
            }
        }
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
        validator().validate(&module).expect("naga lets it pass");
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

#[test]
fn tint_agrees() {
    let Some(tint) = Tint::find() else {
        println!("NOT RUN: there is no `tint` on PATH");
        return;
    };
    for shader in SHADERS {
        for width in Width::ALL {
            let name = format!("{}_{width:?}", shader.name);
            tint.check(&name, &shader.source(width))
                .unwrap_or_else(|words| panic!("{name}: {words}"));
        }
    }
    for (index, (good, body)) in barriers().enumerate() {
        let result = tint.check(&format!("barrier_{index}"), &with_barriers(body));
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
        let uses = |shader: &&Shader| {
            Width::ALL.iter().any(|width| shader.source(*width).contains(source.text))
        };
        assert!(SHADERS.iter().any(uses), "no shader uses {}", source.file);
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

#[test]
fn what_a_header_needs_goes_before_it() {
    for shader in SHADERS {
        for (index, source) in shader.sources.iter().enumerate() {
            let header = header(source);
            let needs = header.split_once(" Needs ").map_or("", |(_, needs)| needs);
            let needs = needs.split_once(" Tests: ").map_or(needs, |(needs, _)| needs);
            for needed in files_named(needs, "wgsl") {
                let in_front = ["scalar.wgsl", "vector.wgsl"].contains(&needed)
                    || shader.sources[..index].iter().any(|other| other.file == needed);
                assert!(in_front, "{}: {} needs {needed}", shader.name, source.file);
            }
        }
    }
}
