//! Builds again when a migration is added, since the macro that embeds them cannot say so itself.

#[expect(clippy::print_stdout, reason = "cargo listens to it")]
fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
