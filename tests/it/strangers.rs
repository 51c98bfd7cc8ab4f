//! What strangers have to go by: the `OpenAPI` documents, the page that shows them, and a page for
//! every problem.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::world::{World, key, until};

/// The document that an API serves.
async fn document(world: &World, base: &str) -> Value {
    let reply = world.send(world.stranger().get(format!("{base}/openapi.json"))).await;
    reply.expect(200).body
}

/// Path, method and description of an operation.
fn operation<'a>(document: &'a Value, id: &str) -> (&'a str, &'a str, &'a Value) {
    let paths = document["paths"].as_object().unwrap();
    let all = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap();
        methods.iter().map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    });
    let mut all = all.filter(|(.., operation)| operation["operationId"] == id);
    all.next().unwrap_or_else(|| panic!("there is no operation {id}"))
}

fn example(operation: &Value) -> &Value {
    &operation["requestBody"]["content"]["application/json"]["example"]
}

/// Goal: the document and a token are all that it takes.
/// Method: paths, bodies and links are taken from the documents and the answers alone.
#[tokio::test]
async fn a_stranger_places_tracks_and_cancels_an_order_by_the_document() {
    let world = World::start().await;
    let (commands, queries) = (world.command_url(), world.query_url());
    let (writing, reading) = (document(&world, &commands).await, document(&world, &queries).await);
    let http = world.stranger();
    let send = async |id: &str, parameter: Option<(&str, &str)>| {
        let (path, method, operation) = operation(&writing, id);
        assert_eq!(method, "post");
        let path = match parameter {
            Some((name, value)) => path.replace(&format!("{{{name}}}"), value),
            None => path.to_owned(),
        };
        let request = http.post(format!("{commands}{path}")).header("Idempotency-Key", key());
        let reply = world.send(request.bearer_auth(world.token()).json(example(operation))).await;
        let status = reply.status.as_u16().to_string();
        assert!(operation["responses"].get(&status).is_some(), "{id}: {status} {}", reply.body);
        reply
    };
    send("receiveStock", Some(("sku", "mug"))).await.expect(200);
    let placed = send("placeOrder", None).await.expect(201).body;
    let order = placed["id"].as_str().unwrap();
    let (path, method, _) = operation(&reading, "getOrder");
    assert_eq!(method, "get");
    let url = format!("{queries}{}", path.replace("{order_id}", order));
    let status_is = async |wanted: &str| {
        until(wanted, || async {
            let reply = world.send(http.get(&url).bearer_auth(world.token())).await;
            (reply.body["status"] == wanted).then_some(())
        })
        .await;
    };
    status_is("confirmed").await;
    let undone = send("cancelOrder", Some(("order_id", order))).await.expect(202);
    assert_eq!(undone.header("Location"), undone.body["links"]["saga"].as_str());
    status_is("cancelled").await;
    world.end().await;
}

#[tokio::test]
async fn the_document_is_the_committed_one_and_has_a_page_that_needs_no_network() {
    let world = World::start().await;
    world.stock("mug", 1).await;
    for (name, base) in [("command-api", world.command_url()), ("query-api", world.query_url())] {
        let path = root().join(format!("schemas/openapi/{name}.json"));
        let committed: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(document(&world, &base).await, committed, "run `make schemas`");
        let page = world.stranger().get(format!("{base}/docs")).send().await.unwrap();
        assert_eq!(page.status(), 200);
        let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.contains("default-src 'none'"), "{policy}");
        let html = page.text().await.unwrap();
        assert!(!html.contains("https://") && !html.contains("http://"), "it loads something");
    }
    world.end().await;
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[test]
fn every_problem_has_a_page_and_every_page_a_problem() {
    let operations = command_api::operations().into_iter().chain(query_api::operations());
    let codes: Vec<_> = operations.flat_map(|o| o.problems().collect::<Vec<_>>()).collect();
    let around = web::openapi::CODES_AROUND;
    let codes: BTreeSet<String> = codes.into_iter().chain(around).map(str::to_owned).collect();
    let pages = std::fs::read_dir(root().join("docs/problems")).unwrap();
    let pages: BTreeSet<String> = pages
        .map(|page| page.unwrap().path())
        .filter(|page| page.file_name().unwrap() != "README.md")
        .map(|page| page.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(codes.difference(&pages).collect::<Vec<_>>(), [""; 0], "without a page");
    assert_eq!(pages.difference(&codes).collect::<Vec<_>>(), [""; 0], "of no problem");
}

#[test]
fn operations_have_names_of_their_own_and_examples_that_fit() {
    let mut names = BTreeSet::new();
    for operation in command_api::operations().into_iter().chain(query_api::operations()) {
        operation.check_example().unwrap_or_else(|error| panic!("{}: {error}", operation.name()));
        assert!(names.insert(operation.name().to_owned()), "{} twice", operation.name());
    }
}
