//! Where the server programs are.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::exit::Misconfigured;

/// The oldest Postgres that is known to do.
const POSTGRES_MAJOR_MIN: u32 = 15;

/// The oldest nats-server: older ones answer OK and drop the fields they do not know.
const NATS_VERSION_MIN: (u32, u32) = (2, 10);

/// A set of Postgres programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postgres {
    /// The folder of `postgres`, `initdb`, `pgbench`.
    pub bin: PathBuf,
    /// As 15.
    pub major: u32,
}

/// The newest Postgres of this machine: in `WAYBILL_POSTGRES_BIN`, on the PATH, where Debian
/// keeps it, or in a Homebrew prefix.
///
/// # Errors
/// Where there is none of version 15 or later; the message says how to get one.
pub fn find_postgres() -> anyhow::Result<Postgres> {
    let wanted: Vec<PathBuf> = match env::var_os("WAYBILL_POSTGRES_BIN") {
        Some(folder) => vec![folder.into()],
        None => search_path()
            .chain(subfolders("/usr/lib/postgresql", "bin"))
            .chain(subfolders("/opt/homebrew/opt", "bin"))
            .chain(subfolders("/usr/local/opt", "bin"))
            .filter(|folder| folder.join("initdb").is_file())
            .collect(),
    };
    let found: Vec<Postgres> = wanted
        .into_iter()
        .filter_map(|bin| {
            let version = version_of(&bin.join("postgres"))?;
            Some(Postgres { bin, major: version.0 })
        })
        .collect();
    let newest = found.iter().max_by_key(|postgres| postgres.major).cloned();
    match newest {
        Some(postgres) if postgres.major >= POSTGRES_MAJOR_MIN => Ok(postgres),
        Some(Postgres { bin, major }) => Err(Misconfigured::error(format!(
            "the Postgres in {} is version {major}, and {POSTGRES_MAJOR_MIN} or later is needed; \
             install a newer one, or pass --database-url to use a server that runs already",
            bin.display()
        ))),
        None => Err(Misconfigured::error(
            "no Postgres was found on the PATH, in /usr/lib/postgresql or in a Homebrew prefix; \
             install one (Debian: `apt-get install postgresql`, macOS: `brew install postgresql`), \
             name the folder of its programs in WAYBILL_POSTGRES_BIN, or pass --database-url to \
             use a server that runs already",
        )),
    }
}

/// The nats-server of this machine: `WAYBILL_NATS_SERVER`, `.tools/bin` of this folder or of
/// one above it (`make setup` puts it there), or the one on the PATH.
///
/// # Errors
/// Where there is none of version 2.10 or later; the message says how to get one.
pub fn find_nats_server() -> anyhow::Result<PathBuf> {
    let mut candidates: Vec<PathBuf> = match env::var_os("WAYBILL_NATS_SERVER") {
        Some(program) => vec![program.into()],
        None => tools().chain(search_path()).map(|folder| folder.join("nats-server")).collect(),
    };
    candidates.retain(|program| program.is_file());
    let mut too_old = None;
    for program in candidates {
        match version_of(&program) {
            Some(version) if version >= NATS_VERSION_MIN => return Ok(program),
            version => too_old = too_old.or(Some((program, version))),
        }
    }
    let (major, minor) = NATS_VERSION_MIN;
    let next = "run `make setup`, name a newer one in WAYBILL_NATS_SERVER, or pass --nats-url to \
                use a server that runs already";
    Err(Misconfigured::error(match too_old {
        Some((program, Some((found, found_minor)))) => format!(
            "{} is version {found}.{found_minor}, and {major}.{minor} or later is needed; {next}",
            program.display()
        ),
        Some((program, None)) => {
            format!("{} does not answer `--version`; {next}", program.display())
        }
        None => format!(
            "no nats-server was found in WAYBILL_NATS_SERVER, .tools/bin or on the PATH; {next}"
        ),
    }))
}

/// `program` on the PATH, or where system programs are.
pub(super) fn find_on_path(program: &str) -> Option<PathBuf> {
    let system = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].into_iter().map(PathBuf::from);
    search_path().chain(system).map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn search_path() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).filter(|folder| folder.is_absolute()).collect::<Vec<_>>().into_iter()
}

/// `.tools/bin` of the working folder and of those above it, nearest first; then of the
/// folders above this program, which finds it from a build anywhere in the project.
fn tools() -> impl Iterator<Item = PathBuf> {
    let starts = [env::current_dir().ok(), env::current_exe().ok()];
    let above = |start: PathBuf| start.ancestors().map(Path::to_path_buf).collect::<Vec<_>>();
    starts.into_iter().flatten().flat_map(above).map(|folder| folder.join(".tools/bin"))
}

/// `base/*/last` for every folder in `base`.
fn subfolders(base: &str, last: &'static str) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(base).into_iter().flatten().flatten();
    entries.map(move |entry| entry.path().join(last))
}

/// Major and minor version, by what the program says about itself.
fn version_of(program: &Path) -> Option<(u32, u32)> {
    let output = Command::new(program).arg("--version").output().ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// The first number of a text like `postgres (PostgreSQL) 15.12` or `nats-server: v2.15.1`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let number = text.split_whitespace().find_map(|word| {
        let word = word.strip_prefix('v').unwrap_or(word);
        word.starts_with(|first: char| first.is_ascii_digit()).then_some(word)
    })?;
    let mut parts = number.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let major = parts.next()?.ok()?;
    Some((major, parts.next().and_then(Result::ok).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_programs_write_them() {
        for (text, version) in [
            ("postgres (PostgreSQL) 15.12 (Debian 15.12-0+deb12u2)", Some((15, 12))),
            ("postgres (PostgreSQL) 18beta1", Some((18, 0))),
            ("nats-server: v2.15.1\n", Some((2, 15))),
            ("what?", None),
        ] {
            assert_eq!(parse_version(text), version, "{text}");
        }
    }
}
