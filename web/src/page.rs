//! Lists, a page at a time.

use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{Json, Problem, limits};

/// A page of a list: `{"data": […], "page": {"next_cursor", "prev_cursor", "has_more"}}`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Page<T> {
    /// The rows.
    pub data: Vec<T>,
    /// Where the list goes on.
    pub page: Ends,
    #[serde(skip)]
    uri: Option<Uri>,
}

/// Where a list goes on.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct Ends {
    /// To the page after this one.
    pub next_cursor: Option<String>,
    /// To the page before this one.
    pub prev_cursor: Option<String>,
    /// Whether there is a page after this one.
    pub has_more: bool,
}

impl<T> Page<T> {
    /// A page.
    #[must_use]
    pub fn new(data: Vec<T>, next_cursor: Option<String>, prev_cursor: Option<String>) -> Self {
        let has_more = next_cursor.is_some();
        Self { data, page: Ends { next_cursor, prev_cursor, has_more }, uri: None }
    }

    /// Adds the header `Link` with `rel="next"` and `rel="prev"`, made from the request's URI.
    #[must_use]
    pub fn linked(mut self, uri: &Uri) -> Self {
        self.uri = Some(uri.clone());
        self
    }

    fn links(&self) -> Option<HeaderValue> {
        let uri = self.uri.as_ref()?;
        let query = uri.query().unwrap_or_default();
        let kept: Vec<_> = query
            .split('&')
            .filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="))
            .collect();
        let link = |cursor: &Option<String>, rel: &str| {
            let pair = format!("cursor={}", cursor.as_ref()?);
            let query = kept.iter().copied().chain([pair.as_str()]).collect::<Vec<_>>().join("&");
            Some(format!("<{}?{query}>; rel=\"{rel}\"", uri.path()))
        };
        let links = [link(&self.page.next_cursor, "next"), link(&self.page.prev_cursor, "prev")];
        let links = links.into_iter().flatten().collect::<Vec<_>>().join(", ");
        HeaderValue::try_from(links).ok().filter(|links| !links.is_empty())
    }
}

impl<T: Serialize> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        let links = self.links();
        let mut response = Json(self).into_response();
        response.headers_mut().extend(links.map(|links| (header::LINK, links)));
        response
    }
}

/// How many rows to read for `limit`, as a query gave it.
///
/// # Errors
/// 400 outside 1 to [`limits::PAGE_ROWS_MAX`].
pub fn rows(limit: Option<u32>) -> Result<u32, Problem> {
    let limit = limit.unwrap_or(limits::PAGE_ROWS_DEFAULT);
    if (1..=limits::PAGE_ROWS_MAX).contains(&limit) {
        return Ok(limit);
    }
    let detail = format!("a page has 1 to {} rows", limits::PAGE_ROWS_MAX);
    Err(Problem::invalid_parameter("limit", "out_of_range", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_links_to_its_neighbours() {
        let uri = "/v1/orders?limit=2&cursor=old&filter[status]=pending".parse().unwrap();
        let page =
            Page::<u8>::new(vec![], Some("ab".to_owned()), Some("cd".to_owned())).linked(&uri);
        assert_eq!(
            page.links().unwrap(),
            "</v1/orders?limit=2&filter[status]=pending&cursor=ab>; rel=\"next\", \
             </v1/orders?limit=2&filter[status]=pending&cursor=cd>; rel=\"prev\""
        );
        assert_eq!(Page::<u8>::new(vec![], None, None).linked(&uri).links(), None);
    }

    #[test]
    fn a_page_has_a_limit() {
        assert_eq!(rows(None).unwrap(), 50);
        assert_eq!(rows(Some(200)).unwrap(), 200);
        assert!(rows(Some(0)).is_err());
        assert!(rows(Some(201)).is_err());
    }
}
