//! The wasm32 standard library: rustup's, or Debian's `rustc-web` with its library built from Debian's sources.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::announce;
use super::system::{self, System};
use crate::process::{capture, command, run, succeeds};
use crate::wasm::{DEBIAN_TOOLCHAIN, Source, TARGET, Toolchain};
use crate::workspace::Workspace;

/// Where the Debian compiler looks for the libraries of the target.
const DEBIAN_LIBRARY: &str = "/usr/lib/rustlib/wasm32-unknown-unknown/lib";

/// A file beside those libraries that holds `rustc -vV` of the compiler that built them.
const STAMP: &str = ".built-with";

/// Finds or makes a toolchain that builds for wasm32.
pub fn ensure(workspace: &Workspace) -> Result<String> {
    let source = Source::from_environment()?;
    let toolchain = match Toolchain::installed(workspace, source) {
        Some(toolchain) => toolchain,
        None => install(workspace, source)?,
    };
    Ok(format!("toolchain {}", toolchain.name()))
}

/// The toolchain that builds for wasm32, with its clippy, which is installed where it is missing.
pub fn ensure_clippy(workspace: &Workspace) -> Result<Toolchain> {
    let toolchain = Toolchain::required(workspace)?;
    if toolchain.has_clippy(workspace) {
        return Ok(toolchain);
    }
    if toolchain.name() == DEBIAN_TOOLCHAIN {
        system::apt_install(&["rust-web-clippy"])?;
    } else {
        let mut rustup = command("rustup", workspace.root());
        run(rustup.args(["component", "add", "clippy", "--toolchain", toolchain.name()]))?;
    }
    if !toolchain.has_clippy(workspace) {
        bail!("clippy is installed and does not run with the toolchain `{}`", toolchain.name());
    }
    Ok(toolchain)
}

fn install(workspace: &Workspace, source: Source) -> Result<Toolchain> {
    if source != Source::Debian {
        match from_rustup(workspace) {
            Ok(toolchain) => return Ok(toolchain),
            Err(error) if source == Source::Rustup => return Err(error),
            Err(_) => println!("  rustup cannot add {TARGET} here; Debian's own packages can"),
        }
    }
    if System::here() != System::Debian {
        bail!(
            "Debian's rustc-web is the way without rustup, and this is not Debian; run `rustup target add {TARGET}`"
        );
    }
    from_debian()
}

fn from_rustup(workspace: &Workspace) -> Result<Toolchain> {
    let toolchain = Toolchain::active(workspace)?;
    announce(&format!("rustup target add {TARGET} ({})", toolchain.name()));
    capture(command("rustup", Path::new("/")).args([
        "target",
        "add",
        TARGET,
        "--toolchain",
        toolchain.name(),
    ]))?;
    if !toolchain.works() {
        bail!("rustup added {TARGET} to `{}`, which still does not build for it", toolchain.name());
    }
    Ok(toolchain)
}

fn from_debian() -> Result<Toolchain> {
    system::apt_install(&["rustc-web", "cargo-web", "rust-web-src"])?;
    let compiler = capture(command("/usr/bin/rustc", Path::new("/")).arg("-vV"))?;
    ensure_linker(&compiler)?;
    let stamp = Path::new(DEBIAN_LIBRARY).join(STAMP);
    // An upgrade of the compiler makes the library stale: it refuses what another version built.
    if fs::read_to_string(stamp).unwrap_or_default().trim() != compiler {
        build_library(&compiler)?;
    }
    let toolchain = Toolchain::named(DEBIAN_TOOLCHAIN);
    if !is_linked()? {
        run(command("rustup", Path::new("/")).args(["toolchain", "link", DEBIAN_TOOLCHAIN, "/usr"]))?;
    }
    if !toolchain.works() {
        bail!("Debian's rustc-web is installed and does not build for {TARGET}");
    }
    Ok(toolchain)
}

fn is_linked() -> Result<bool> {
    let list = capture(command("rustup", Path::new("/")).args(["toolchain", "list"]))?;
    Ok(list.lines().any(|line| line.split_whitespace().next() == Some(DEBIAN_TOOLCHAIN)))
}

/// rustc looks for `rust-lld` in its own folder; the lld of the same LLVM serves.
fn ensure_linker(compiler: &str) -> Result<()> {
    let llvm = llvm_major(compiler).context("`rustc -vV` names no LLVM version")?;
    let host = host(compiler).context("`rustc -vV` names no host")?;
    let lld = format!("lld-{llvm}");
    system::apt_install(&[&lld])?;
    let dir = format!("/usr/lib/rustlib/{host}/bin");
    let link = format!("{dir}/rust-lld");
    let program = format!("/usr/bin/{lld}");
    if fs::read_link(&link).is_ok_and(|to| to == Path::new(&program)) {
        return Ok(());
    }
    root_runs("mkdir", &["-p", &dir])?;
    root_runs("ln", &["-sfn", &program, &link])
}

/// Builds the standard library with the flags of its own distribution: bitcode embedded, so that our LTO works.
fn build_library(compiler: &str) -> Result<()> {
    announce("building the standard library for wasm32 from Debian's sources (about 80 s of CPU)");
    let build = std::env::temp_dir().join(format!("limn-wasm-std-{}", std::process::id()));
    let mut cargo = command("/usr/bin/cargo", Path::new("/usr/lib/rustlib/src/rust/library/sysroot"));
    for name in ["RUSTUP_TOOLCHAIN", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "RUSTC_WRAPPER"] {
        cargo.env_remove(name);
    }
    cargo
        .env("RUSTC", "/usr/bin/rustc")
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", &build)
        .env("__CARGO_DEFAULT_LIB_METADATA", "wasmstd")
        .env("RUSTFLAGS", "-Zforce-unstable-if-unmarked -Cembed-bitcode=yes")
        .args(["build", "--quiet", "--locked", "--profile", "dist", "--target", TARGET])
        .args(["--features", "panic-unwind,backtrace"]);
    run(&mut cargo)?;
    install_library(&build.join(TARGET).join("dist").join("deps"), compiler)?;
    // A folder left behind in the temporary folder harms nobody.
    let _ = fs::remove_dir_all(&build);
    Ok(())
}

fn install_library(built: &Path, compiler: &str) -> Result<()> {
    let stamp = built.join(STAMP);
    fs::write(&stamp, format!("{compiler}\n"))?;
    root_runs("rm", &["-rf", DEBIAN_LIBRARY])?;
    root_runs("mkdir", &["-p", DEBIAN_LIBRARY])?;
    let mut copied = 0;
    for entry in fs::read_dir(built)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // `sysroot` is only the crate that pulls the others in.
        if name.ends_with(".rlib") && !name.starts_with("libsysroot-") {
            root_runs("cp", &[&path.to_string_lossy(), DEBIAN_LIBRARY])?;
            copied += 1;
        }
    }
    if copied == 0 {
        bail!("the build of the standard library left no libraries in `{}`", built.display());
    }
    // Last, so that a stamp is there only when everything is.
    root_runs("cp", &[&stamp.to_string_lossy(), DEBIAN_LIBRARY])
}

fn root_runs(program: &str, arguments: &[&str]) -> Result<()> {
    let Some(mut command) = system::as_root(program) else {
        bail!("`{program} {}` needs root or sudo", arguments.join(" "));
    };
    if !succeeds(command.args(arguments)) {
        bail!("`{program} {}` failed", arguments.join(" "));
    }
    Ok(())
}

fn llvm_major(compiler: &str) -> Option<&str> {
    compiler.lines().find_map(|line| line.strip_prefix("LLVM version: "))?.split('.').next()
}

fn host(compiler: &str) -> Option<&str> {
    compiler.lines().find_map(|line| line.strip_prefix("host: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPILER: &str = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\n\
        binary: rustc\nhost: x86_64-unknown-linux-gnu\nrelease: 1.96.0\nLLVM version: 22.1.8";

    #[test]
    fn the_linker_follows_the_compilers_llvm() {
        assert_eq!(llvm_major(COMPILER), Some("22"));
        assert_eq!(host(COMPILER), Some("x86_64-unknown-linux-gnu"));
        assert_eq!(llvm_major("rustc 1.96.0"), None);
    }
}
