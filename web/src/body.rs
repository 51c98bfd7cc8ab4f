//! Request bodies: read up to a limit, and taken apart into types.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Problem, json, limits};

/// A JSON body of at most [`limits::BODY_BYTES_MAX`], and a JSON answer.
///
/// Malformed JSON is 400 with line and column; a value that does not fit is 422 with its
/// pointer; no `Content-Type` of JSON is 415; too much is 413.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json<T>(pub T);

/// As [`Json`], of at most [`limits::LARGE_BODY_BYTES_MAX`].
#[derive(Debug, Clone, Copy, Default)]
pub struct LargeJson<T>(pub T);

/// As [`Json`], where no body at all is taken for `T::default()`.
#[derive(Debug, Clone, Copy, Default)]
pub struct OptionalJson<T>(pub T);

/// The bytes of a body of at most [`limits::BODY_BYTES_MAX`], whatever they are.
#[derive(Debug, Clone, Default)]
pub struct RawBody(pub Bytes);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        expect_json(request.headers())?;
        json::parse(&read(request, limits::BODY_BYTES_MAX).await?).map(Self)
    }
}

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for LargeJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        expect_json(request.headers())?;
        json::parse(&read(request, limits::LARGE_BODY_BYTES_MAX).await?).map(Self)
    }
}

impl<T: DeserializeOwned + Default, S: Sync> FromRequest<S> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let typed = request.headers().contains_key(header::CONTENT_TYPE);
        let is_json = expect_json(request.headers());
        let body = read(request, limits::BODY_BYTES_MAX).await?;
        if body.is_empty() {
            return if typed { is_json } else { Ok(()) }.map(|()| Self(T::default()));
        }
        is_json?;
        json::parse(&body).map(Self)
    }
}

impl<S: Sync> FromRequest<S> for RawBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        read(request, limits::BODY_BYTES_MAX).await.map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => {
                let json = HeaderValue::from_static("application/json");
                ([(header::CONTENT_TYPE, json)], body).into_response()
            }
            Err(error) => Problem::internal(&error).into_response(),
        }
    }
}

/// Refuses a body that does not say it is JSON.
fn expect_json(headers: &HeaderMap) -> Result<(), Problem> {
    let essence = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let is_json = essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"));
    if is_json {
        return Ok(());
    }
    let code = "unsupported_media_type";
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        code,
        "send the body with Content-Type: application/json",
    ))
}

/// Reads a body of at most `bytes_max`.
async fn read(request: Request, bytes_max: usize) -> Result<Bytes, Problem> {
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let mut body = request.into_body();
    let wait = limits::BODY_WAIT_MAX;
    let collected = tokio::time::timeout(wait, collect(&mut body, bytes_max, announced)).await;
    match collected.unwrap_or(Err(Broken::TooSlow)) {
        Ok(body) => Ok(body),
        Err(Broken::TooLarge) => {
            // A client that is still sending when the connection closes may never read why.
            let rest = collect(&mut body, limits::DISCARDED_BYTES_MAX, None);
            let _ = tokio::time::timeout(wait, rest).await;
            let detail = format!("the body may have {bytes_max} bytes");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail))
        }
        Err(Broken::Off) => {
            Err(Problem::new(StatusCode::BAD_REQUEST, "body_broken", "the body broke off"))
        }
        Err(Broken::TooSlow) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_too_slow",
            "the body did not arrive in time",
        )),
    }
}

/// Why there is no body.
enum Broken {
    TooLarge,
    TooSlow,
    Off,
}

/// The body, which is not copied where it comes in one piece.
async fn collect(
    body: &mut Body,
    bytes_max: usize,
    announced: Option<usize>,
) -> Result<Bytes, Broken> {
    if announced.is_some_and(|bytes| bytes > bytes_max) {
        return Err(Broken::TooLarge);
    }
    let mut first = Bytes::new();
    let mut pieces = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|_| Broken::Off)?.into_data() else { continue };
        if first.len() + pieces.len() + piece.len() > bytes_max {
            return Err(Broken::TooLarge);
        }
        if first.is_empty() && pieces.is_empty() {
            first = piece;
        } else {
            pieces.extend_from_slice(&std::mem::take(&mut first));
            pieces.extend_from_slice(&piece);
        }
    }
    Ok(if pieces.is_empty() { first } else { pieces.into() })
}
