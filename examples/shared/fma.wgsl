// fma.wgsl — the compute ceiling: as many f32 multiply-adds as the adapter can do, on registers alone.
//
//   s = s·factor + summand      seven times of eight, for each of 48 sums
//   s = s·share + t             every eighth time, t being another sum
//
// An invocation keeps twelve vec4 in four groups of three: enough independent work for any pipeline,
// and few enough values at a time for sixteen registers. One loop iteration takes each group through
// 32 multiply-adds a vec4. The eighth ones tie a group's sums together: without them, a compiler may
// take one sum after the other through all of its multiply-adds, each waiting for the one before.
//
// `factor`, `summand` and `share` are the host's, so that no compiler knows them. With 1, 1 and 0,
// the sums change places every eighth time and count the other seven: the stored total says
// that none was left out.
//
// Mesa's software driver up to 22.3 silently leaves loops after 65,535 iterations; these are few.

struct Parameters {
    iterations: u32,
    factor: f32,
    summand: f32,
    share: f32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read_write> totals: array<f32>;

struct Group {
    x: vec4<f32>,
    y: vec4<f32>,
    z: vec4<f32>,
}

fn eight(start: Group, factor: vec4<f32>, summand: vec4<f32>, share: vec4<f32>) -> Group {
    var g = start;
    g.x = fma(g.x, factor, summand);
    g.y = fma(g.y, factor, summand);
    g.z = fma(g.z, factor, summand);
    g.x = fma(g.x, factor, summand);
    g.y = fma(g.y, factor, summand);
    g.z = fma(g.z, factor, summand);
    g.x = fma(g.x, factor, summand);
    g.y = fma(g.y, factor, summand);
    g.z = fma(g.z, factor, summand);
    g.x = fma(g.x, factor, summand);
    g.y = fma(g.y, factor, summand);
    g.z = fma(g.z, factor, summand);
    g.x = fma(g.x, factor, summand);
    g.y = fma(g.y, factor, summand);
    g.z = fma(g.z, factor, summand);
    g.x = fma(g.x, factor, summand);
    g.y = fma(g.y, factor, summand);
    g.z = fma(g.z, factor, summand);
    g.x = fma(g.x, factor, summand);
    g.y = fma(g.y, factor, summand);
    g.z = fma(g.z, factor, summand);
    return Group(fma(g.x, share, g.y.yzwx), fma(g.y, share, g.z.yzwx), fma(g.z, share, g.x.yzwx));
}

fn thirty_two(start: Group, factor: vec4<f32>, summand: vec4<f32>, share: vec4<f32>) -> Group {
    var g = start;
    g = eight(g, factor, summand, share);
    g = eight(g, factor, summand, share);
    g = eight(g, factor, summand, share);
    return eight(g, factor, summand, share);
}

fn group_from(first: f32) -> Group {
    let x = first + vec4<f32>(0.0, 1.0, 2.0, 3.0);
    return Group(x, x + 4.0, x + 8.0);
}

fn total(g: Group) -> f32 {
    let sum = g.x + g.y + g.z;
    return (sum.x + sum.y) + (sum.z + sum.w);
}

@compute @workgroup_size(64)
fn fma_ceiling(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let factor = vec4<f32>(parameters.factor);
    let summand = vec4<f32>(parameters.summand);
    let share = vec4<f32>(parameters.share);
    var a = group_from(0.0);
    var b = group_from(12.0);
    var c = group_from(24.0);
    var d = group_from(36.0);
    for (var iteration = 0u; iteration < parameters.iterations; iteration++) {
        a = thirty_two(a, factor, summand, share);
        b = thirty_two(b, factor, summand, share);
        c = thirty_two(c, factor, summand, share);
        d = thirty_two(d, factor, summand, share);
    }
    let index = (group.y * groups.x + group.x) * 64u + local;
    if index < arrayLength(&totals) {
        totals[index] = (total(a) + total(b)) + (total(c) + total(d));
    }
}
