//! How the program is linked.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Only there is LLD Rust's own linker. Functions whose code is the same are in the program once.
    if std::env::var("TARGET").is_ok_and(|target| target == "x86_64-unknown-linux-gnu") {
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
    }
}
