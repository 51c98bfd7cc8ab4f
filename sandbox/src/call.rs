//! One call as it came in.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::http::{HeaderMap, Uri};
use sha2::{Digest as _, Sha256};

/// What a caller sent.
#[derive(Debug)]
pub(crate) struct Call {
    /// The caller's idempotency key.
    pub(crate) key: Option<String>,
    /// What is asked: a digest of path and body.
    pub(crate) fingerprint: String,
    /// The body.
    pub(crate) body: Bytes,
    /// How the caller reaches this server, as `http://127.0.0.1:4242`.
    origin: String,
}

impl Call {
    /// Reads a call.
    pub(crate) fn new(headers: &HeaderMap, uri: &Uri, body: Bytes) -> Self {
        let key = headers.get("idempotency-key").and_then(|value| value.to_str().ok());
        let host = headers.get("host").and_then(|value| value.to_str().ok());
        let digest = Sha256::new().chain_update(uri.path()).chain_update([0]).chain_update(&body);
        Self {
            key: key.filter(|key| !key.is_empty()).map(str::to_owned),
            fingerprint: hex::encode(digest.finalize()),
            body,
            origin: format!("http://{}", host.unwrap_or("localhost")),
        }
    }

    /// The body as a form.
    pub(crate) fn form(&self) -> Form {
        Form { origin: self.origin.clone(), ..Form::read(&self.body) }
    }
}

/// The fields of a form or a query.
#[derive(Debug, Default)]
pub(crate) struct Form {
    fields: Vec<(String, String)>,
    origin: String,
}

impl Form {
    /// Reads `a=1&b[c]=2`.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let fields = form_urlencoded::parse(bytes).into_owned().collect();
        Self { fields, origin: String::new() }
    }

    /// How the caller reached this server.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// The value of a field.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// The fields `name[…]`.
    pub(crate) fn map(&self, name: &str) -> BTreeMap<String, String> {
        let inner = |field: &str| {
            field.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']').map(str::to_owned)
        };
        self.fields
            .iter()
            .filter_map(|(field, value)| Some((inner(field)?, value.clone())))
            .collect()
    }

    /// Whether `expand[]` asks for `what`.
    pub(crate) fn expands(&self, what: &str) -> bool {
        self.fields.iter().any(|(field, value)| field.starts_with("expand") && value == what)
    }
}
