//! What has to be written so that the files say what the code does, and what must not be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context as _, bail};
use schemas::catalogue::{Catalogue, shape};
use serde_json::Value;

use super::{asyncapi, breaking};

/// Where the schemas of events stand.
pub(super) const EVENTS: &str = "json/events";
/// Where the schemas of commands stand.
pub(super) const COMMANDS: &str = "json/commands";
/// The document of all events.
pub(super) const ASYNCAPI: &str = "asyncapi.json";
/// Where the documents of the APIs stand.
pub(super) const OPENAPI: &str = "openapi";
/// Where the examples stand.
pub(super) const GOLDEN: &str = "golden";

/// The way from what stands in a folder to what the code says.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Files that are missing or say something else.
    pub(super) write: BTreeMap<PathBuf, Value>,
    /// Files that nothing stands for any more.
    pub(super) remove: BTreeSet<PathBuf>,
    /// Types of events that changed under an unchanged version.
    pub(super) frozen: BTreeSet<String>,
    /// What callers of the APIs would find changed.
    pub(super) broken: BTreeSet<String>,
}

impl Plan {
    /// Compares `folder` with what the code says. Nobody has stored the types in `replace`.
    pub(super) fn make(
        folder: &Path,
        events: Catalogue,
        commands: &Catalogue,
        apis: &Catalogue,
        replace: &BTreeSet<String>,
    ) -> anyhow::Result<Self> {
        let mut plan = Self::default();
        let events = plan.events(&folder.join(EVENTS), events, replace)?;
        plan.commands(&folder.join(COMMANDS), commands)?;
        let document = asyncapi::document(&events, &read(&folder.join(GOLDEN))?)?;
        let path = folder.join(ASYNCAPI);
        let stands = if path.exists() { Some(parsed(&path)?) } else { None };
        plan.put(path, stands.as_ref(), &document);
        plan.apis(&folder.join(OPENAPI), apis)?;
        Ok(plan)
    }

    /// Plans the schemas of events, and tells which there are then: those of types that are no
    /// longer written stay, since what was stored under them stays.
    fn events(
        &mut self,
        folder: &Path,
        written: Catalogue,
        replace: &BTreeSet<String>,
    ) -> anyhow::Result<Catalogue> {
        let mut all = read(folder)?;
        if let Some(unknown) =
            replace.iter().find(|name| !written.contains_key(*name) && !all.contains_key(*name))
        {
            bail!("there is no event of type `{unknown}` to replace");
        }
        for name in replace.iter().filter(|name| !written.contains_key(*name)) {
            all.remove(name);
            self.remove.insert(file(folder, name));
        }
        for (name, schema) in written {
            let stands = all.get(&name);
            let changed = stands.is_some_and(|stands| shape(stands) != shape(&schema));
            if changed && !replace.contains(&name) {
                self.frozen.insert(name);
                continue;
            }
            self.put(file(folder, &name), stands, &schema);
            all.insert(name, schema);
        }
        Ok(all)
    }

    /// Commands are requests, not records: they have no versions and change with the code. Those
    /// in the journals of sagas are still read, as their golden files say.
    fn commands(&mut self, folder: &Path, commands: &Catalogue) -> anyhow::Result<()> {
        let stands = read(folder)?;
        for (name, schema) in commands {
            self.put(file(folder, name), stands.get(name), schema);
        }
        let gone = stands.keys().filter(|name| !commands.contains_key(*name));
        self.remove.extend(gone.map(|name| file(folder, name)));
        Ok(())
    }

    /// The documents of the APIs follow the code, as long as nobody is let down by it.
    fn apis(&mut self, folder: &Path, apis: &Catalogue) -> anyhow::Result<()> {
        let stands = read(folder)?;
        for (name, document) in apis {
            if let Some(before) = stands.get(name) {
                self.broken.extend(breaking::changes(before, document));
            }
            self.put(file(folder, name), stands.get(name), document);
        }
        Ok(())
    }

    fn put(&mut self, path: PathBuf, stands: Option<&Value>, value: &Value) {
        if stands != Some(value) {
            self.write.insert(path, value.clone());
        }
    }

    /// Writes and removes, and tells which files.
    ///
    /// # Errors
    /// Where a type changed under an unchanged version, before anything is written; or a file
    /// cannot be written.
    pub(super) fn carry_out(self) -> anyhow::Result<Vec<PathBuf>> {
        if let Some(refusal) = self.refusal() {
            bail!(refusal);
        }
        for (path, value) in &self.write {
            let folder = path.parent().unwrap_or_else(|| Path::new("."));
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            fs::write(path, format!("{value:#}\n")).with_context(|| path.display().to_string())?;
        }
        for path in &self.remove {
            fs::remove_file(path).with_context(|| path.display().to_string())?;
        }
        Ok(self.write.into_keys().chain(self.remove).collect())
    }

    /// What to do about types that changed under an unchanged version, where some did.
    pub(super) fn refusal(&self) -> Option<String> {
        let each = |name: &String| {
            let (base, version) = name.rsplit_once(".v").unwrap_or((name, ""));
            let next = version.parse::<u32>().map_or(0, |version| version + 1);
            format!(
                "{name} changed under an unchanged version: add {base}.v{next} and an upcast from \
                 v{version}, see CONTRIBUTING (`Change an event`); if nobody has stored one yet, \
                 `make schemas REPLACE={name}`"
            )
        };
        let broken = self.broken.iter().map(|change| {
            format!(
                "{change}: callers are let down by it; if nobody relies on it yet, \
                 `make schemas BREAK=1`"
            )
        });
        let refusals: Vec<_> = self.frozen.iter().map(each).chain(broken).collect();
        (!refusals.is_empty()).then(|| refusals.join("\n"))
    }
}

fn file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.json"))
}

/// The JSON files of a folder by their names without the ending; none where there is no folder.
pub(super) fn read(folder: &Path) -> anyhow::Result<Catalogue> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Catalogue::new()),
        Err(error) => return Err(error).with_context(|| folder.display().to_string()),
    };
    let mut files = Catalogue::new();
    for entry in entries {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        let ours = path.extension().is_some_and(|ending| ending == "json");
        if let Some(name) = path.file_stem().and_then(|name| name.to_str()).filter(|_| ours) {
            files.insert(name.to_owned(), parsed(&path)?);
        }
    }
    Ok(files)
}

fn parsed(path: &Path) -> anyhow::Result<Value> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}
