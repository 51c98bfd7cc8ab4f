//! The page that tells how to add a projection shows a real one, and says how long it is.

use std::path::Path;

/// Fewer lines than this make a read model.
const LINES_MAX: usize = 70;

/// The fenced blocks of the page, each with the path that the line before it names.
fn blocks(page: &str) -> Vec<(&str, String)> {
    let mut blocks: Vec<(&str, String)> = Vec::new();
    let (mut named, mut open) = (None, false);
    for line in page.lines() {
        if line.starts_with("```") {
            open = !open;
            if let (true, Some(path)) = (open, named.take()) {
                blocks.push((path, String::new()));
            }
        } else if open {
            let (_, text) = blocks.last_mut().unwrap();
            text.push_str(line);
            text.push('\n');
        } else if let Some(path) = line.strip_prefix('`').and_then(|rest| rest.split_once('`')) {
            named = Some(path.0);
        }
    }
    blocks
}

#[test]
fn the_page_on_projections_shows_what_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let page = read("docs/how-to/add-a-projection.md");
    let blocks = blocks(&page);
    let mut lines = 0;
    for (path, shown) in &blocks {
        let there = read(path);
        if shown.lines().count() == 1 {
            assert!(there.contains(shown.as_str()), "{path} has no line {shown}");
        } else {
            assert_eq!(*shown, there, "{path} is not what the page shows");
        }
        if path.starts_with("projections/") {
            lines += shown.lines().count();
        }
    }
    let shown: Vec<_> = blocks.iter().map(|(path, _)| *path).collect();
    let expected = [
        "projections/src/customer_summary.rs",
        "projections/migrations/2015_customer_summary.sql",
        "projections/src/lib.rs",
        "projections/src/registry.rs",
        "query-api/src/customer.rs",
        "query-api/src/lib.rs",
        "query-api/src/lib.rs",
    ];
    assert_eq!(shown, expected);
    assert!(lines < LINES_MAX, "it takes {lines} lines");
}
