//! What a login could do to history.

use sqlx::{FromRow, PgPool};

use crate::Error;

#[derive(FromRow)]
struct Login {
    superuser: bool,
    makes_roles: bool,
    replays: bool,
    owned: Vec<String>,
    changed: Vec<String>,
}

/// What the user whom this pool logs in as could do to history, in words for people; empty where
/// it is nothing. Looks at the login itself, for any role that a session has taken on can be laid
/// down again.
///
/// # Errors
/// [`Error::Database`].
pub async fn powers(pool: &PgPool) -> Result<Vec<String>, Error> {
    // 'maintain' apart, these are all the rights a table knows besides select and insert.
    let login: Login = sqlx::query_as(
        "select r.rolsuper as superuser, r.rolcreaterole as makes_roles, \
             has_parameter_privilege(session_user, 'session_replication_role', 'set') as replays, \
             array(select c.relname::text from pg_class c where c.oid = any (history) \
                   and pg_has_role(session_user, c.relowner, 'member') order by c.relname) as owned, \
             array(select c.relname::text from pg_class c where c.oid = any (history) \
                   and has_table_privilege(session_user, c.oid, 'update, delete, truncate, trigger') \
                   order by c.relname) \
                 as changed \
         from pg_roles r, \
             (select array['events'::regclass::oid, 'segments'::regclass::oid] as history) as h \
         where r.rolname = session_user",
    )
    .fetch_one(pool)
    .await?;
    let mut powers = Vec::new();
    if login.superuser {
        // Everything else follows.
        return Ok(vec!["it is a superuser".to_owned()]);
    }
    if login.makes_roles {
        powers.push("it may make roles and join them".to_owned());
    }
    if login.replays {
        powers.push("it may turn triggers off (session_replication_role)".to_owned());
    }
    if !login.owned.is_empty() {
        powers.push(format!("it owns {}", login.owned.join(" and ")));
    } else if !login.changed.is_empty() {
        powers.push(format!("it has rights to change {}", login.changed.join(" and ")));
    }
    Ok(powers)
}
