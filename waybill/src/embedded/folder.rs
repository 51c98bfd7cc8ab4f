//! The data folder: one process at a time, and passable for whoever the servers run as.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use event_store::MasterKey;
use nix::unistd::{Gid, Uid, User};
use schemas::{Chance, Ids};
use zeroize::Zeroizing;

use crate::exit::Misconfigured;

/// The file of the master key in a data folder.
const MASTER_KEY: &str = "master.key";
/// The file with the key that tokens are signed with.
const TOKEN_KEY: &str = "token.key";

/// A secret that is shorter was not written to its end, and nothing depends on it yet.
const SECRET_CHARACTERS_MIN: usize = 32;

/// The user that Postgres runs as where this process is root, which Postgres refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Servant {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    pub(super) name: String,
}

impl Servant {
    /// `postgres`, or else `nobody`; none where this process is not root.
    pub(super) fn needed() -> anyhow::Result<Option<Self>> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        for name in ["postgres", "nobody"] {
            if let Some(user) = User::from_name(name).context("cannot look up users")? {
                return Ok(Some(Self { uid: user.uid, gid: user.gid, name: user.name }));
            }
        }
        Err(Misconfigured::error(
            "Postgres refuses to run as root, and there is neither a user `postgres` nor a user \
             `nobody` to run it as; run as an ordinary user, or pass --database-url",
        ))
    }
}

/// A data folder, ours until this is dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    password: String,
    servant: Option<Servant>,
    // The lock is let go of when the file is closed, also by a kill.
    _lock: File,
}

impl Folder {
    /// Makes the folder where there is none, and takes it.
    ///
    /// # Errors
    /// Where it cannot be made or passed, or another process uses it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let named = |what: &str| format!("cannot {what} the data folder {}", path.display());
        fs::create_dir_all(path).with_context(|| named("make"))?;
        let path = path.canonicalize().with_context(|| named("find"))?;
        let servant = Servant::needed()?;
        if let Some(servant) = &servant {
            check_passable(&path, servant)?;
        }
        let lock = lock(&path)?;
        let password = secret(&path.join("password"))?;
        Ok(Self { path, password, servant, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the servers in it ask for.
    pub(super) fn password(&self) -> &str {
        &self.password
    }

    /// The password of one login, made once.
    pub(super) fn password_of(&self, login: &str) -> anyhow::Result<String> {
        secret(&self.path.join(format!("password.{login}")))
    }

    /// The user that Postgres runs as, where that is not us.
    pub(super) fn servant(&self) -> Option<&Servant> {
        self.servant.as_ref()
    }
}

/// A data folder for somebody whose working folder the servers cannot pass: the same for the
/// same working folder.
pub(crate) fn fallback(wanted: &Path) -> anyhow::Result<Option<PathBuf>> {
    let Some(servant) = Servant::needed()? else { return Ok(None) };
    let absolute = std::path::absolute(wanted).context("there is no working folder")?;
    let blocked = absolute.ancestors().any(|folder| folder.is_dir() && !passable(folder, &servant));
    if !blocked {
        return Ok(None);
    }
    let name: String = absolute
        .to_string_lossy()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    Ok(Some(Path::new("/var/tmp").join(format!("waybill{name}"))))
}

fn check_passable(path: &Path, servant: &Servant) -> anyhow::Result<()> {
    match path.ancestors().find(|folder| !passable(folder, servant)) {
        None => Ok(()),
        Some(folder) => Err(Misconfigured::error(format!(
            "Postgres refuses root, so it runs as user `{}`, who may not pass {}; choose another \
             place with --data-dir, as /var/tmp/waybill, or run as an ordinary user",
            servant.name,
            folder.display()
        ))),
    }
}

/// Whether the user may go through the folder, by its mode.
fn passable(folder: &Path, servant: &Servant) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(metadata) = fs::metadata(folder) else { return false };
    let execute = match (metadata.uid(), metadata.gid()) {
        (uid, _) if uid == servant.uid.as_raw() => 0o100,
        (_, gid) if gid == servant.gid.as_raw() => 0o010,
        _ => 0o001,
    };
    metadata.permissions().mode() & execute != 0
}

fn lock(path: &Path) -> anyhow::Result<File> {
    let file = path.join("lock");
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(&file);
    let lock = open.with_context(|| format!("cannot open {}", file.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Misconfigured::error(format!(
            "the data folder {} is in use by another waybill; stop that one, or choose another \
             folder with --data-dir",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", file.display()))
        }
    }
}

/// The password that is kept in `file`, made once.
fn secret(file: &Path) -> anyhow::Result<String> {
    let ids = Ids::system();
    let make = || Zeroizing::new(format!("{}{}", ids.next().simple(), ids.next().simple()));
    Ok(keep(file, make)?.to_string())
}

/// The master key of the platform that has this folder, made once. Lost, it takes all personal
/// data with it.
pub(crate) fn master_key(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    keep(&path.join(MASTER_KEY), || MasterKey::generate(Chance::system()))
}

/// The key that the platform with this folder signs tokens with, 32 bytes as base64, made once.
pub(crate) fn token_key(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    // As much chance, in the same spelling, as a master key is.
    keep(&path.join(TOKEN_KEY), || MasterKey::generate(Chance::system()))
}

/// The master key in the data folder `path`, where there is one.
pub(crate) fn existing_master_key(path: &Path) -> Option<Zeroizing<String>> {
    fs::read_to_string(path.join(MASTER_KEY)).ok().map(Zeroizing::new)
}

/// What stands in `file`; made and written down where that is nothing.
fn keep(
    file: &Path,
    make: impl FnOnce() -> Zeroizing<String>,
) -> anyhow::Result<Zeroizing<String>> {
    let named = |what: &str| format!("cannot {what} {}", file.display());
    let mut kept = Zeroizing::new(String::new());
    match File::open(file) {
        Ok(mut open) => _ = open.read_to_string(&mut kept).with_context(|| named("read"))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| named("read")),
    }
    if kept.len() >= SECRET_CHARACTERS_MIN {
        return Ok(kept);
    }
    let secret = make();
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    let write = || -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        let mut open = options.create(true).write(true).truncate(true).mode(0o600).open(&new)?;
        open.write_all(secret.as_bytes())?;
        open.sync_all()?;
        fs::rename(&new, file)
    };
    write().with_context(|| named("write"))?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_for_one_process_at_a_time() {
        let path = std::env::temp_dir().join(format!("waybill-{}", Ids::system().next()));
        let first = Folder::open(&path).unwrap();
        let second = Folder::open(&path).unwrap_err();
        assert!(second.to_string().contains("in use"), "{second}");
        let password = first.password().to_owned();
        drop(first);
        assert_eq!(Folder::open(&path).unwrap().password(), password);
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_folder_keeps_one_master_key_for_its_owner_only() {
        let path = std::env::temp_dir().join(format!("waybill-{}", Ids::system().next()));
        fs::create_dir_all(&path).unwrap();
        let key = master_key(&path).unwrap();
        assert!(key.parse::<MasterKey>().is_ok());
        assert_eq!(master_key(&path).unwrap(), key);
        let mode = fs::metadata(path.join("master.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_dir_all(&path).unwrap();
    }
}
