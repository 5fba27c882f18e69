//! Which Burn this is.

/// What the program was built from.
const LOCK: &str = include_str!("../Cargo.lock");

/// Name, version, and what it does by default.
pub fn describe() -> String {
    let version = version_of("burn").unwrap_or("of unknown version");
    format!("Burn {version}, autotune and fusion, WGSL")
}

/// The version of a package, as locked.
fn version_of(package: &str) -> Option<&'static str> {
    let mut lines = LOCK.lines();
    lines
        .find(|line| line.strip_prefix("name = ").is_some_and(|name| unquoted(name) == package))?;
    Some(unquoted(lines.next()?.strip_prefix("version = ")?))
}

fn unquoted(text: &str) -> &str {
    text.trim_matches('"')
}
