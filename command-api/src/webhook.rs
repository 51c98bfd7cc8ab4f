//! How webhooks are answered: 200 unless sending them again may help.

use event_store::{AppendError, Done, ExecuteError};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use web::{Access, Json, Operation, Problem};

use crate::execute::{NOWHERE, problem};

/// The answer to a webhook.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Heard {
    received: bool,
}

const HEARD: Json<Heard> = Json(Heard { received: true });

/// What all webhooks have in common.
pub(crate) fn operation(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    let heard = json!({ "received": true });
    Operation::post(path, id, Access::Signature, summary)
        .answers::<Heard>(200, "Heard; it need not be sent again.", &[], heard)
        .refuses(401, &["signature_invalid"])
        .refuses(503, &["contended"])
}

/// It is not about anything of ours.
pub(crate) fn ignored(sender: &'static str, notice: &str, why: &str) -> Json<Heard> {
    tracing::info!(sender, notice.id = notice, why, "a webhook was ignored");
    HEARD
}

/// What the domain made of it. A refusal stays a refusal however often it is sent, so it is
/// logged and taken; where the store is away, 503 makes the sender try again.
pub(crate) fn heard(
    sender: &'static str,
    notice: &str,
    done: Result<Done, ExecuteError>,
) -> Result<Json<Heard>, Problem> {
    match done {
        Ok(_) => Ok(HEARD),
        Err(
            error @ (ExecuteError::Refused { .. }
            | ExecuteError::Append(
                AppendError::Refused(_) | AppendError::Mismatch | AppendError::Invalid(_),
            )),
        ) => {
            tracing::warn!(sender, notice.id = notice, %error, "a webhook came to nothing");
            Ok(HEARD)
        }
        Err(error) => Err(problem(error, NOWHERE)),
    }
}

#[cfg(test)]
mod tests {
    use event_store::Refused;

    use super::*;

    #[test]
    fn only_what_may_get_better_is_sent_again() {
        let refused = Refused { code: "not_found".to_owned(), detail: "no".to_owned() };
        let refused = ExecuteError::Refused { refused, replayed: false };
        assert!(heard("carrier", "evt_1", Err(refused)).is_ok());
        let mismatch = ExecuteError::Append(AppendError::Mismatch);
        assert!(heard("carrier", "evt_1", Err(mismatch)).is_ok());
        let contended = heard("carrier", "evt_1", Err(ExecuteError::Contended)).unwrap_err();
        assert_eq!(contended.status().as_u16(), 503);
    }
}
