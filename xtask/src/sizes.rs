//! What people download, in bytes, and the limits it must stay under.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::client;
use crate::edge;
use crate::process::{capture, command};
use crate::workspace::Workspace;

/// A download, made of a module and its glue.
struct Download {
    title: &'static str,
    files: Vec<PathBuf>,
    limit_gzip_bytes: u64,
}

/// Sizes of one file or of a sum of files.
#[derive(Clone, Copy, Default)]
struct Size {
    raw_bytes: u64,
    gzip_bytes: u64,
    brotli_bytes: u64,
}

/// The server is one file that people download, copy and put into images.
const BINARY_BYTES_MAX: u64 = 12_000_000;

/// Prints the sizes and fails where one is beyond its limit.
pub fn run(workspace: &Workspace) -> Result<()> {
    let downloads = [
        Download {
            title: "edge worker",
            files: with_extensions(&workspace.path("build"), &["wasm", "js"])?,
            // About 170 kB of it judge clauses and map messages for derived shapes: types, operators, numbers of any length.
            limit_gzip_bytes: 420_000,
        },
        Download {
            title: "browser client",
            files: with_extensions(&workspace.path(client::PACKAGE), &["wasm", "js"])?,
            limit_gzip_bytes: 150_000,
        },
    ];
    println!("  {:<40} {:>10} {:>10} {:>10} {:>10}", "", "raw", "gzip", "brotli", "limit");
    let mut beyond = Vec::new();
    for download in downloads {
        let total = measure_download(workspace, &download)?;
        if total.gzip_bytes > download.limit_gzip_bytes {
            beyond.push(format!(
                "{}: {} bytes gzipped, at most {}",
                download.title, total.gzip_bytes, download.limit_gzip_bytes
            ));
        }
    }
    let binary_bytes = measure_binary(workspace)?;
    if binary_bytes > BINARY_BYTES_MAX {
        beyond.push(format!("limn: {binary_bytes} bytes, at most {BINARY_BYTES_MAX}"));
    }
    if !beyond.is_empty() {
        bail!("too large: {}", beyond.join("; "));
    }
    Ok(())
}

fn measure_download(workspace: &Workspace, download: &Download) -> Result<Size> {
    let mut total = Size::default();
    for file in &download.files {
        let size = measure(workspace, file)?;
        let shown = file.strip_prefix(workspace.root()).unwrap_or(file);
        print_row(&format!("  {}", shown.display()), size, "");
        total.raw_bytes += size.raw_bytes;
        total.gzip_bytes += size.gzip_bytes;
        total.brotli_bytes += size.brotli_bytes;
    }
    print_row(download.title, total, &download.limit_gzip_bytes.to_string());
    Ok(total)
}

/// Nobody serves the program compressed: what counts is the file.
fn measure_binary(workspace: &Workspace) -> Result<u64> {
    let path = workspace.limn();
    let file = std::fs::metadata(&path).with_context(|| {
        format!("`{}` is not there; it is built by `cargo build --release -p limn-origin`", path.display())
    })?;
    println!(
        "  {:<40} {:>10} {:>10} {:>10} {BINARY_BYTES_MAX:>10}",
        "limn (limit of the raw size)",
        file.len(),
        "",
        ""
    );
    Ok(file.len())
}

fn print_row(title: &str, size: Size, limit: &str) {
    let Size { raw_bytes, gzip_bytes, brotli_bytes } = size;
    println!("  {title:<40} {raw_bytes:>10} {gzip_bytes:>10} {brotli_bytes:>10} {limit:>10}");
}

/// Node has both compressors; its defaults for them are what a CDN would use at its best.
fn measure(workspace: &Workspace, file: &Path) -> Result<Size> {
    const SCRIPT: &str = "const z = require('zlib'), b = require('fs').readFileSync(process.argv[1]); \
        console.log(JSON.stringify([b.length, z.gzipSync(b, { level: 9 }).length, z.brotliCompressSync(b).length]))";
    let printed = capture(command("node", workspace.root()).args(["-e", SCRIPT]).arg(file))
        .with_context(|| format!("`{}` cannot be measured; is it built?", file.display()))?;
    parse_sizes(&printed).with_context(|| format!("node printed `{printed}`, expected three numbers"))
}

fn parse_sizes(printed: &str) -> Option<Size> {
    let sizes: Value = serde_json::from_str(printed).ok()?;
    let at = |index: usize| sizes.get(index)?.as_u64();
    Some(Size { raw_bytes: at(0)?, gzip_bytes: at(1)?, brotli_bytes: at(2)? })
}

fn with_extensions(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| {
        format!(
            "`{}` is not there; `{}` is built by `cargo x edge build`",
            folder.display(),
            edge::MAIN_MODULE
        )
    })?;
    let mut files: Vec<_> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.retain(|path| {
        extensions.iter().any(|extension| path.extension().is_some_and(|own| own == *extension))
    });
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_numbers_are_three_sizes() {
        let size = parse_sizes("[300,200,100]").expect("three numbers");
        assert_eq!((size.raw_bytes, size.gzip_bytes, size.brotli_bytes), (300, 200, 100));
        assert!(parse_sizes("[300,200]").is_none());
        assert!(parse_sizes("error").is_none());
    }
}
