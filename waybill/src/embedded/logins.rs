//! The logins of a private Postgres: whoever serves is not whoever owns the log.

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::exit::Misconfigured;

/// A login, and the groups it is a member of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Login {
    pub(super) name: &'static str,
    pub(super) member_of: &'static [&'static str],
}

/// Of the roles that write.
pub(super) const SERVING: Login =
    Login { name: "waybill_serve", member_of: &["waybill_write", "waybill_read"] };

/// Of the query API.
pub(super) const READING: Login = Login { name: "waybill_query", member_of: &["waybill_read"] };

/// Makes a login, or gives it another password, and has it be a member of `groups` and able to do
/// nothing else. `url` is that of somebody who may make roles; groups that are not there are made.
///
/// # Errors
/// Where a name or the password is not made of letters, digits and `_`, or the server refuses.
pub async fn add_login(
    url: &str,
    login: &str,
    password: &str,
    groups: &[&str],
) -> anyhow::Result<()> {
    let words = [login, password].into_iter().chain(groups.iter().copied());
    for word in words {
        let plain = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !plain || word.is_empty() {
            return Err(Misconfigured::error(
                "a login, its password and its groups are made of letters, digits and `_`",
            ));
        }
    }
    let mut connection = PgConnection::connect(url).await.context("cannot log in as the owner")?;
    let made = groups.iter().chain([&login]).map(|role| {
        format!(
            "do $$ begin create role {role} nologin; \
             exception when duplicate_object or unique_violation then null; end $$;"
        )
    });
    let statements = made.chain([
        format!("alter role {login} login password '{password}';"),
        format!("grant {} to {login};", groups.join(", ")),
    ]);
    let statements: String = statements.collect();
    // One round trip is one transaction.
    let added = connection.execute(AssertSqlSafe(statements)).await;
    added.with_context(|| format!("cannot make the login {login}"))?;
    connection.close().await.context("cannot end a session")
}
