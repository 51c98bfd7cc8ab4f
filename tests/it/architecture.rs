//! The crates form a tree: an arrow that the architecture does not draw fails here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Who may import whom, within the workspace. `waybill` may import everything.
const ARROWS: [(&str, &[&str]); 11] = [
    ("schemas", &[]),
    ("aggregates", &["schemas"]),
    ("event-store", &["schemas", "trace"]),
    ("trace", &[]),
    ("web", &["trace"]),
    ("projections", &["schemas", "event-store"]),
    ("saga", &["schemas", "event-store"]),
    ("adapters", &["schemas", "aggregates", "event-store", "trace"]),
    ("sandbox", &[]),
    ("command-api", &["schemas", "aggregates", "event-store", "saga", "web"]),
    ("query-api", &["schemas", "aggregates", "event-store", "projections", "saga", "web"]),
];

/// The only crates that see the system as a whole.
const EVERYTHING: [&str; 3] = ["waybill", "tests", "bench"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Every crate of the workspace, with the workspace crates it imports outside of its tests.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let ours: BTreeSet<String> = packages.iter().map(name).collect();
    let normal = |package: &Value| {
        let dependencies = package["dependencies"].as_array().unwrap();
        dependencies.iter().filter(|d| d["kind"].is_null()).map(name).collect::<BTreeSet<_>>()
    };
    packages.iter().map(|p| (name(p), normal(p).intersection(&ours).cloned().collect())).collect()
}

#[test]
fn no_crate_imports_what_the_architecture_does_not_draw() {
    let mut found = imports();
    for everything in EVERYTHING {
        assert!(found.remove(everything).is_some(), "{everything} is gone");
    }
    for (name, allowed) in ARROWS {
        let allowed: BTreeSet<String> = allowed.iter().map(|&name| name.to_owned()).collect();
        let drawn = found.remove(name).unwrap_or_else(|| panic!("{name} is gone"));
        let extra: Vec<_> = drawn.difference(&allowed).collect();
        assert!(extra.is_empty(), "{name} must not import {extra:?}");
    }
    assert!(found.is_empty(), "new crates need a line in ARROWS: {found:?}");
}

/// The read side imports the log to look into it. What can append is never named there, so that
/// nobody can hand it one.
#[test]
fn the_query_api_names_nothing_that_can_append() {
    let mut looked = 0;
    for entry in std::fs::read_dir(root().join("query-api/src")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        let named = words.find(|word| ["Store", "Writer", "Append", "execute"].contains(word));
        assert_eq!(named, None, "{}", path.display());
        looked += 1;
    }
    assert!(looked > 5);
}

/// A gate that is off is for measurements.
#[test]
fn nobody_but_the_benchmark_turns_the_gate_off() {
    let mut open = vec![root()];
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let ours = !["target", "bench", "tests"].contains(&name.as_str());
            if path.is_dir() && !name.starts_with('.') && ours {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && std::fs::read_to_string(&path).unwrap().contains("Gate::off")
            {
                found.push(path);
            }
        }
    }
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn the_event_store_names_no_context() {
    let mut open = vec![root().join("event-store/src")];
    let mut named = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.file_name().is_some_and(|name| name != "tests.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let (code, _) = text.split_once("#[cfg(test)]").unwrap_or((&text, ""));
                let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
                let tells = |line: &&str| {
                    schemas::Category::ALL.iter().any(|context| {
                        let (module, variant) = (context.as_str(), format!("{context:?}"));
                        [
                            format!("{module}::"),
                            format!("\"{module}\""),
                            format!("{variant}Id"),
                            format!("Category::{variant}"),
                            format!("Fact::{variant}"),
                        ]
                        .iter()
                        .any(|name| line.contains(name.as_str()))
                    })
                };
                named.extend(code.filter(tells).map(|line| format!("{}: {line}", path.display())));
            }
        }
    }
    assert!(named.is_empty(), "{named:#?}");
}

#[test]
fn every_module_says_what_it_is_for() {
    let mut open = vec![root()];
    let mut silent = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                // A file of tests belongs to the module that it tests.
                if name != "tests.rs" && !text.starts_with("//! ") {
                    silent.push(path);
                }
            }
        }
    }
    assert!(silent.is_empty(), "these do not open with `//! `: {silent:?}");
}
