//! Naga's backends, with the options that wgpu gives them.

use naga::back::{hlsl, msl, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::ModuleInfo;
use naga::{AddressSpace, Module, ResourceBinding, Scalar, ShaderStage, StorageAccess};

/// What a backend of wgpu hands to the driver.
#[derive(Debug, Clone, Copy)]
pub enum Language {
    /// For Vulkan 1.1.
    Spirv,
    /// For DX12, through FXC and DXC.
    Hlsl(hlsl::ShaderModel),
    /// For Metal, version 2.4.
    Msl,
}

impl Language {
    pub const ALL: [Self; 4] = [
        Self::Spirv,
        Self::Hlsl(hlsl::ShaderModel::V5_1),
        Self::Hlsl(hlsl::ShaderModel::V6_0),
        Self::Msl,
    ];

    /// Whether wgpu offers subgroups to shaders in this language.
    pub fn has_subgroups(self) -> bool {
        !matches!(self, Self::Hlsl(hlsl::ShaderModel::V5_0 | hlsl::ShaderModel::V5_1))
    }

    /// Whether naga writes HLSL.
    pub fn is_hlsl(self) -> bool {
        matches!(self, Self::Hlsl(_))
    }

    /// Translates a module without overrides, with or without the runtime checks, for a device with or
    /// without subgroups; the length of what was written.
    pub fn translate(
        self,
        module: &Module,
        info: &ModuleInfo,
        entry_point: &str,
        checks: bool,
        subgroups: bool,
    ) -> Result<usize, String> {
        match self {
            Self::Spirv => to_spirv(module, info, entry_point, checks, subgroups),
            Self::Hlsl(shader_model) => to_hlsl(module, info, entry_point, checks, shader_model),
            Self::Msl => to_msl(module, info, entry_point, checks),
        }
    }
}

/// A variable that is bound.
struct Bound {
    place: ResourceBinding,
    /// Its rank among those bound.
    number: u8,
    writable: bool,
}

fn bound(module: &Module) -> Vec<Bound> {
    let variables = module.global_variables.iter();
    let mut bound: Vec<_> =
        variables.filter_map(|(_, variable)| Some((variable.binding?, variable.space))).collect();
    bound.sort_by_key(|(place, _)| *place);
    let describe = |(number, (place, space))| Bound {
        place,
        number,
        writable: match space {
            AddressSpace::Storage { access } => access.contains(StorageAccess::STORE),
            _ => false,
        },
    };
    (0..).zip(bound).map(describe).collect()
}

fn policies(checks: bool) -> BoundsCheckPolicies {
    let policy = if checks { BoundsCheckPolicy::Restrict } else { BoundsCheckPolicy::Unchecked };
    BoundsCheckPolicies {
        index: policy,
        buffer: policy,
        image_load: policy,
        binding_array: BoundsCheckPolicy::Unchecked,
    }
}

fn to_spirv(
    module: &Module,
    info: &ModuleInfo,
    entry_point: &str,
    checks: bool,
    subgroups: bool,
) -> Result<usize, String> {
    let place_info = |bound: Bound| {
        let info = spv::BindingInfo {
            descriptor_set: bound.place.group,
            binding: bound.place.binding,
            binding_array_size: None,
        };
        (bound.place, info)
    };
    // What every Vulkan device has, or every one with the features of wgpu that a form or a width asks for, and
    // no more.
    let shuffle = subgroups.then_some(spv::Capability::GroupNonUniformShuffle);
    let cooperative = [
        spv::Capability::Float16,
        spv::Capability::CooperativeMatrixKHR,
        spv::Capability::VulkanMemoryModel,
    ];
    let uses_f16 = module.types.iter().any(|(_, ty)| ty.inner.scalar_width() == Some(2));
    let cooperative = cooperative.into_iter().filter(|_| uses_f16);
    let uses_u64 = module.types.iter().any(|(_, ty)| ty.inner.scalar() == Some(Scalar::U64));
    let integers = uses_u64.then_some(spv::Capability::Int64);
    let capabilities = std::iter::once(spv::Capability::Shader);
    let capabilities = capabilities.chain(shuffle).chain(integers).chain(cooperative);
    let options = spv::Options {
        lang_version: (1, 3),
        flags: spv::WriterFlags::LABEL_VARYINGS | spv::WriterFlags::FORCE_POINT_SIZE,
        fake_missing_bindings: false,
        binding_map: bound(module).into_iter().map(place_info).collect(),
        capabilities: Some(capabilities.collect()),
        bounds_check_policies: policies(checks),
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: checks,
        emit_int_div_checks: checks,
        ..Default::default()
    };
    let pipeline = spv::PipelineOptions {
        shader_stage: ShaderStage::Compute,
        entry_point: entry_point.to_owned(),
    };
    spv::write_vec(module, info, &options, Some(&pipeline))
        .map(|words| words.len())
        .map_err(|error| error.to_string())
}

fn to_hlsl(
    module: &Module,
    info: &ModuleInfo,
    entry_point: &str,
    checks: bool,
    shader_model: hlsl::ShaderModel,
) -> Result<usize, String> {
    let place_target = |bound: Bound| {
        let target = hlsl::BindTarget {
            register: u32::from(bound.number),
            restrict_indexing: true,
            ..Default::default()
        };
        (bound.place, target)
    };
    let options = hlsl::Options {
        shader_model,
        fake_missing_bindings: false,
        binding_map: bound(module).into_iter().map(place_target).collect(),
        zero_initialize_workgroup_memory: false,
        restrict_indexing: checks,
        force_loop_bounding: checks,
        ..Default::default()
    };
    let pipeline =
        hlsl::PipelineOptions { entry_point: Some((ShaderStage::Compute, entry_point.to_owned())) };
    let mut text = String::new();
    let reflection = hlsl::Writer::new(&mut text, &options, &pipeline)
        .write(module, info, None)
        .map_err(|error| error.to_string())?;
    for name in reflection.entry_point_names {
        name.map_err(|error| error.to_string())?;
    }
    Ok(text.len())
}

fn to_msl(
    module: &Module,
    info: &ModuleInfo,
    entry_point: &str,
    checks: bool,
) -> Result<usize, String> {
    let bound = bound(module);
    let sizes_buffer = Some(bound.len() as u8);
    let place_target = |bound: Bound| {
        let target = msl::BindTarget {
            buffer: Some(bound.number),
            mutable: bound.writable,
            ..Default::default()
        };
        (bound.place, target)
    };
    let resources = msl::EntryPointResources {
        resources: bound.into_iter().map(place_target).collect(),
        immediates_buffer: None,
        sizes_buffer,
    };
    let options = msl::Options {
        lang_version: (2, 4),
        per_entry_point_map: [(entry_point.to_owned(), resources)].into(),
        fake_missing_bindings: false,
        bounds_check_policies: policies(checks),
        zero_initialize_workgroup_memory: false,
        force_loop_bounding: checks,
        emit_int_div_checks: checks,
        ..Default::default()
    };
    let pipeline = msl::PipelineOptions {
        entry_point: Some((ShaderStage::Compute, entry_point.to_owned())),
        ..Default::default()
    };
    let (text, translation) =
        msl::write_string(module, info, &options, &pipeline).map_err(|error| error.to_string())?;
    for name in translation.entry_point_names {
        name.map_err(|error| error.to_string())?;
    }
    Ok(text.len())
}
