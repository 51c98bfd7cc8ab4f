//! Who may do what.

use event_store::log::powers;
use sqlx::{AssertSqlSafe, PgPool};

use super::super::{append, log, order, superuser};
use super::run;
use crate::services;

/// Every way to change what happened that a login might try.
const CHANGES: [&str; 15] = [
    "update $ set # = #",
    "delete from $",
    "truncate $",
    "alter table $ disable trigger all",
    "alter table $ owner to waybill_write",
    "alter table $ rename to other",
    "drop table $ cascade",
    "create trigger x before insert on $ for each row execute function suppress_redundant_updates_trigger()",
    "create rule x as on insert to $ do instead nothing",
    "alter table $ add column x text",
    "reset role; delete from $",
    "reset role; set role waybill; delete from $",
    "set session_replication_role = replica",
    "reset role; set session_replication_role = replica",
    "set session authorization waybill",
];

#[tokio::test]
async fn the_serving_login_cannot_change_history() {
    let (url, log) = log().await;
    log.store.append(append(&[(order(), 0)], 1)).await.unwrap();
    run(
        &superuser(&url).await,
        "insert into segments (number, first_position, last_position, log, seal)
         values (1, 1, 1, 'main', sha256('x'))",
    )
    .await;
    let serving = services::serving(&url).await;
    let reading = services::login(&url, &["waybill_read"]).await;
    for login in [&serving, &reading] {
        let pool = PgPool::connect(login).await.unwrap();
        assert_eq!(powers(&pool).await.unwrap(), Vec::<String>::new());
        for (table, column) in
            [("events", "position"), ("events_00000", "position"), ("segments", "number")]
        {
            for change in CHANGES {
                let change = change.replace('$', table).replace('#', column);
                // A connection of its own, since what it sets would stay.
                let pool = PgPool::connect(login).await.unwrap();
                let refused = sqlx::raw_sql(AssertSqlSafe(change.clone())).execute(&pool).await;
                let why = refused.expect_err(&change).to_string();
                let known = ["permission denied", "must be owner"];
                assert!(known.iter().any(|known| why.contains(known)), "{change}: {why}");
            }
            // Refused, or granted without effect: Postgres only warns.
            let grant = format!("grant all on {table} to waybill_write, waybill_read");
            let _ = sqlx::raw_sql(AssertSqlSafe(grant)).execute(&pool).await;
        }
        assert_eq!(powers(&pool).await.unwrap(), Vec::<String>::new());
    }
    log.end().await;
}

#[tokio::test]
async fn a_login_that_could_change_history_is_told_from_one_that_cannot() {
    let (url, log) = log().await;
    let owner = superuser(&url).await;
    assert_eq!(powers(&owner).await.unwrap(), ["it is a superuser"]);
    for (right, power) in [
        ("alter role $ createrole", "it may make roles and join them"),
        ("grant waybill to $", "it owns events and segments"),
        ("grant delete on events to $", "it has rights to change events"),
        ("grant pg_write_all_data to $", "it has rights to change events and segments"),
        (
            "grant set on parameter session_replication_role to $",
            "it may turn triggers off (session_replication_role)",
        ),
    ] {
        let login = services::serving(&url).await;
        let pool = PgPool::connect(&login).await.unwrap();
        let user: String =
            sqlx::query_scalar("select session_user::text").fetch_one(&pool).await.unwrap();
        run(&owner, &right.replace('$', &user)).await;
        assert_eq!(powers(&pool).await.unwrap(), [power], "{right}");
    }
    log.end().await;
}

#[tokio::test]
async fn a_temporary_table_does_not_lead_the_owners_functions_astray() {
    let (url, log) = log().await;
    log.store.append(append(&[(order(), 0)], 1)).await.unwrap();
    let serving = PgPool::connect(&services::serving(&url).await).await.unwrap();
    let mut session = serving.acquire().await.unwrap();
    let trap = "create temporary table log_leaves as
            select 'commands' as parent, 'events_00000' as leaf, now() - interval '1 year' as before_time;
        create temporary table events as select 20000000::bigint as position;
        grant select on log_leaves, events to public;
        select log_forget('7 days'); select log_ahead()";
    sqlx::raw_sql(AssertSqlSafe(trap)).execute(&mut *session).await.unwrap();
    assert_eq!(log.store.read(0, 10).await.unwrap().len(), 1);
    let leaves = event_store::log::leaves(&superuser(&url).await).await.unwrap();
    assert!(leaves.iter().all(|leaf| leaf.name != "events_00004"), "{leaves:?}");
    log.end().await;
}

#[tokio::test]
async fn a_role_refuses_to_serve_as_the_owner() {
    let chance = schemas::Chance::system();
    let (url, log) = log().await;
    let role = |url: &str| {
        std::process::Command::new(env!("CARGO_BIN_EXE_waybill-under-test"))
            .args(["query-api", "--query-addr", "127.0.0.1:0", "--database-url", url])
            .env_clear()
            .env("WAYBILL_JWKS", crate::tokens::issuer(7).key_set())
            .env("WAYBILL_MASTER_KEY", event_store::MasterKey::generate(chance).as_str())
            .output()
            .unwrap()
    };
    let refused = role(&url);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("it is a superuser") && said.contains("--allow-owner"), "{said}");
    log.end().await;
}
