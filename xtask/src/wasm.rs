//! Rust for wasm32: which toolchain can do it, and what follows cargo (wasm-bindgen, wasm-opt).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{capture, command, run, succeeds};
use crate::workspace::Workspace;

/// The target of the edge worker and the browser client.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// The name under which the setup links Debian's own Rust into rustup.
pub const DEBIAN_TOOLCHAIN: &str = "debian-web";

/// Where the wasm32 standard library comes from, as `WASM_TOOLCHAIN_FROM` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// rustup's target where it can be had, Debian's packages otherwise.
    Auto,
    /// Only rustup's.
    Rustup,
    /// Only Debian's `rustc-web`, its standard library built from Debian's sources.
    Debian,
}

impl Source {
    /// The choice of this machine's user.
    pub fn from_environment() -> Result<Self> {
        match std::env::var("WASM_TOOLCHAIN_FROM") {
            Err(_) => Ok(Self::Auto),
            Ok(word) => Self::parse(&word),
        }
    }

    fn parse(word: &str) -> Result<Self> {
        match word {
            "" | "auto" => Ok(Self::Auto),
            "rustup" => Ok(Self::Rustup),
            "debian" => Ok(Self::Debian),
            other => bail!("`WASM_TOOLCHAIN_FROM` is `{other}`, expected `auto`, `rustup` or `debian`"),
        }
    }
}

/// A rustup toolchain that builds for wasm32.
#[derive(Clone, Debug)]
pub struct Toolchain {
    name: String,
}

impl Toolchain {
    /// The first toolchain allowed by `source` that makes a real module; `None` when the setup has to act.
    pub fn installed(workspace: &Workspace, source: Source) -> Option<Self> {
        let active = || Self::active(workspace).ok();
        let debian = || Some(Self::named(DEBIAN_TOOLCHAIN));
        let candidates = match source {
            Source::Auto => vec![active(), debian()],
            Source::Rustup => vec![active()],
            Source::Debian => vec![debian()],
        };
        candidates.into_iter().flatten().find(Self::works)
    }

    /// The toolchain that every build for wasm32 uses; an error says to run the setup.
    pub fn required(workspace: &Workspace) -> Result<Self> {
        Self::installed(workspace, Source::from_environment()?)
            .with_context(|| format!("no Rust toolchain here builds for {TARGET}; run `cargo x setup`"))
    }

    /// The toolchain that is in force in the checkout.
    pub fn active(workspace: &Workspace) -> Result<Self> {
        let line = capture(command("rustup", workspace.root()).args(["show", "active-toolchain"]))?;
        let name =
            line.split_whitespace().next().context("`rustup show active-toolchain` printed nothing")?;
        Ok(Self::named(name))
    }

    /// The toolchain of that name, present or not.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    /// Its name in rustup.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Compiles a small module: the library, the linker and their agreement are all needed for that.
    pub fn works(&self) -> bool {
        const SOURCE: &str = "#![crate_type = \"cdylib\"]\n\
            #[unsafe(no_mangle)] pub extern \"C\" fn f(a: i32) -> i32 { vec![a].len() as i32 }\n";
        let dir = std::env::temp_dir().join(format!("limn-wasm-probe-{}", std::process::id()));
        let source = dir.join("probe.rs");
        if std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(&source, SOURCE)).is_err() {
            return false;
        }
        let mut rustc = command("rustc", &dir);
        rustc.arg(format!("+{}", self.name)).args(["--edition", "2024", "--target", TARGET]);
        let works = succeeds(rustc.arg(&source).arg("-o").arg(dir.join("probe.wasm")));
        // A folder left behind in the temporary folder harms nobody.
        let _ = std::fs::remove_dir_all(&dir);
        works
    }

    /// Whether `cargo clippy` runs with this toolchain.
    pub fn has_clippy(&self, workspace: &Workspace) -> bool {
        succeeds(self.cargo(workspace).args(["clippy", "--version"]))
    }

    /// `cargo` of this toolchain, to be followed by its verb.
    pub fn cargo(&self, workspace: &Workspace) -> Command {
        let mut cargo = command("cargo", workspace.root());
        cargo.arg(format!("+{}", self.name));
        cargo
    }
}

/// For whom wasm-bindgen writes its glue.
#[derive(Clone, Copy, Debug)]
pub enum Host {
    /// A page: the glue fetches the module.
    Browser,
    /// workerd: the glue imports the module.
    Worker,
}

/// Compiles `package` small, and answers where its module is.
pub fn build(workspace: &Workspace, package: &str) -> Result<PathBuf> {
    let mut cargo = Toolchain::required(workspace)?.cargo(workspace);
    run(cargo.args(["build", "--package", package, "--lib", "--target", TARGET, "--profile", "wasm"]))?;
    let module = format!("{}.wasm", package.replace('-', "_"));
    Ok(workspace.target().join(TARGET).join("wasm").join(module))
}

/// Writes a module's JavaScript glue, and the module that goes with it: `<name>.js` and `<name>_bg.wasm`.
pub fn bindgen(workspace: &Workspace, host: Host, module: &Path, out_dir: &Path, name: &str) -> Result<()> {
    let host = match host {
        Host::Browser => "browser",
        Host::Worker => "worker",
    };
    let mut bindgen = command(tool(workspace, BINDGEN)?, workspace.root());
    run(bindgen.arg(host).arg(module).arg(out_dir).arg(name))
}

/// The program that `cargo test` runs a module for wasm32 with.
pub fn test_runner(workspace: &Workspace) -> Result<PathBuf> {
    tool(workspace, TEST_RUNNER)
}

const BINDGEN: &str = "bindgen";

const TEST_RUNNER: &str = "test-runner";

/// A program of xtask that is built on demand, with the feature of its name. It lies in the cache, so that a new
/// checkout has its dependencies already.
fn tool(workspace: &Workspace, program: &str) -> Result<PathBuf> {
    let target = workspace.tools().join("wasm");
    let built = target.join("tools");
    let mut cargo = command("cargo", workspace.root());
    cargo.args(["build", "--quiet", "--package", "xtask", "--profile", "tools", "--target-dir"]).arg(&target);
    // Whoever runs tests needs both: with one set of features, what they share is compiled once.
    let wants_both = program == TEST_RUNNER || built.join(TEST_RUNNER).exists();
    for program in [BINDGEN, TEST_RUNNER].iter().take(if wants_both { 2 } else { 1 }) {
        cargo.args(["--bin", program, "--features", program]);
    }
    run(&mut cargo)?;
    Ok(built.join(program))
}

/// What a module asks of its host, as (module, name), in its order.
pub fn imports(module: &[u8]) -> Result<Vec<(String, String)>> {
    let mut imports = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(module) {
        if let wasmparser::Payload::ImportSection(section) = payload? {
            for import in section.into_imports() {
                let import = import?;
                imports.push((import.module.to_owned(), import.name.to_owned()));
            }
        }
    }
    Ok(imports)
}

/// Makes a module small, in place; names and producers are dropped with it.
pub fn optimize(workspace: &Workspace, module: &Path) -> Result<()> {
    let mut wasm_opt = command(workspace.npm_tool("wasm-opt"), workspace.root());
    // The glue's wrappers of what JavaScript may throw catch it; the module itself does not say that it needs that.
    wasm_opt.args(["-Oz", "--strip-debug", "--strip-producers", "--enable-exception-handling", "-o"]);
    run(wasm_opt.arg(module).arg(module))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_asked_for_its_imports() {
        // One type, `() -> ()`, and the import of a function `a.b` of that type.
        let types = [1, 4, 1, 0x60, 0, 0];
        let section = [2, 7, 1, 1, b'a', 1, b'b', 0, 0];
        let module = [b"\0asm\x01\0\0\0".as_slice(), &types, &section].concat();
        assert_eq!(imports(&module).expect("a module"), [("a".to_owned(), "b".to_owned())]);
        assert!(imports(b"not a module").is_err());
    }

    #[test]
    fn sources_are_three_words() {
        assert_eq!(Source::parse("auto").expect("a known word"), Source::Auto);
        assert_eq!(Source::parse("rustup").expect("a known word"), Source::Rustup);
        assert_eq!(Source::parse("debian").expect("a known word"), Source::Debian);
        let error = Source::parse("Debian").expect_err("case counts");
        assert_eq!(
            error.to_string(),
            "`WASM_TOOLCHAIN_FROM` is `Debian`, expected `auto`, `rustup` or `debian`"
        );
    }
}
