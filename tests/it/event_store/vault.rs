//! Personal data: who can open what, and who no more.

use event_store::{Erasure, Error, MasterKey, MasterKeys, Subjects, Vault, VaultError};
use futures_util::future::join_all;
use schemas::{Address, Chance, CustomerId, Personal};
use sqlx::PgPool;

use super::{Log, log, new_id, superuser};
use crate::world::until;

/// A new master key, as text.
fn master() -> String {
    MasterKey::generate(Chance::system()).to_string()
}

/// A vault as a process has it that was given `current` and `others`.
fn vault_with(log: &Log, current: &str, others: &[&str]) -> Vault {
    let others = others.iter().map(|key| key.parse().unwrap()).collect();
    let masters = MasterKeys::new(current.parse().unwrap(), others);
    Vault::new(log.store.pool().clone(), masters, Chance::system())
}

async fn vault(log: &Log, master: &str) -> Vault {
    let vault = vault_with(log, master, &[]);
    vault.introduce().await.unwrap();
    vault
}

fn customer() -> CustomerId {
    CustomerId::new(new_id())
}

fn address(city: &str) -> Address {
    let json = format!(r#"{{"name":"Ada","line1":"Weg 1","city":"{city}","country":"DE"}}"#);
    serde_json::from_str(&json).unwrap()
}

async fn live_keys(pool: &PgPool) -> i64 {
    let query = "select count(*) from subject_keys where wrapped_key is not null";
    sqlx::query_scalar(query).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn what_is_sealed_for_a_person_opens_everywhere_until_they_are_erased() {
    let (url, log) = log().await;
    let key = master();
    let (here, there) = (vault(&log, &key).await, vault(&log, &key).await);
    let drain = log.drain.clone();
    let mut listening = tokio::task::JoinSet::new();
    listening.spawn(there.clone().run(drain));

    let (ada, bob) = (customer(), customer());
    let sealed = here.seal(ada, &address("Berlin")).await.unwrap();
    let other = here.seal(bob, &address("Bonn")).await.unwrap();
    assert_eq!(there.open(&sealed).await.unwrap(), Some(address("Berlin")));
    let again = here.seal(ada, &address("Berlin")).await.unwrap();
    assert_ne!(again, sealed, "the same is never sealed to the same");

    assert_eq!(here.erase(ada, "test", "asked to").await.unwrap(), Erasure::Erased);
    assert_eq!(here.open(&sealed).await.unwrap(), None);
    until("the other process to hear of it", || async {
        there.open(&sealed).await.unwrap().is_none().then_some(())
    })
    .await;
    // A page of rows is opened together, in its order.
    let page = here.open_many(&[&sealed, &other, &again, &other]).await.unwrap();
    assert_eq!(page, [None, Some(address("Bonn")), None, Some(address("Bonn"))]);

    let subjects = Subjects::new(superuser(&url).await);
    let keys = subjects.show(ada).await.unwrap();
    assert_eq!(keys.len(), 1);
    assert_eq!(
        (keys[0].erased_by.as_deref(), keys[0].reason.as_deref(), &keys[0].master),
        (Some("test"), Some("asked to"), &None)
    );
    assert_eq!(subjects.erase(ada, "x", "y").await.unwrap(), Erasure::AlreadyErased);
    assert_eq!(subjects.show(ada).await.unwrap(), keys, "the first erasure is the one on record");
    assert_eq!(subjects.erase(customer(), "x", "y").await.unwrap(), Erasure::Unknown);
    log.end().await;
    listening.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn who_comes_back_after_an_erasure_is_somebody_new_to_us() {
    let (_, log) = log().await;
    let vault = vault(&log, &master()).await;
    let ada = customer();
    let before = vault.seal(ada, &address("Berlin")).await.unwrap();
    vault.erase(ada, "test", "asked to").await.unwrap();
    let after = vault.seal(ada, &address("Bonn")).await.unwrap();
    let opened = vault.open_many(&[&before, &after]).await.unwrap();
    assert_eq!(opened, [None, Some(address("Bonn"))]);
    vault.erase(ada, "test", "again").await.unwrap();
    assert_eq!(vault.open_many(&[&before, &after]).await.unwrap(), [None, None]);
    log.end().await;
}

#[tokio::test]
async fn processes_that_make_the_same_key_at_once_agree_on_one() {
    let (url, log) = log().await;
    let key = master();
    // All start at once on an empty table, too.
    let vaults = join_all((0..8).map(|_| vault(&log, &key))).await;
    let ada = customer();
    let home = address("Berlin");
    let sealed = join_all(vaults.iter().map(|vault| vault.seal(ada, &home))).await;
    let sealed: Vec<_> = sealed.into_iter().map(Result::unwrap).collect();
    let all: Vec<_> = sealed.iter().collect();
    for vault in &vaults {
        let opened = vault.open_many(&all).await.unwrap();
        assert!(opened.iter().all(|opened| opened.as_ref() == Some(&home)));
    }
    assert_eq!(live_keys(&superuser(&url).await).await, 1);
    log.end().await;
}

#[tokio::test]
async fn a_wrong_master_key_is_told_at_the_start_and_never_taken_for_erased() {
    let (_, log) = log().await;
    let right = vault(&log, &master()).await;
    let sealed = right.seal(customer(), &address("Berlin")).await.unwrap();
    let wrong = vault_with(&log, &master(), &[]);
    for told in [wrong.check().await, wrong.introduce().await] {
        assert!(matches!(told, Err(Error::Config(_))), "{told:?}");
    }
    let opened = wrong.open(&sealed).await;
    assert!(matches!(opened, Err(VaultError::UnknownMaster { .. })), "{opened:?}");
    let resealed = wrong.seal(sealed.subject(), &address("Bonn")).await;
    assert!(matches!(resealed, Err(VaultError::UnknownMaster { .. })), "{resealed:?}");
    log.end().await;
}

#[tokio::test]
async fn what_was_moved_changed_or_lost_is_a_fault_and_not_erased() {
    let (url, log) = log().await;
    let vault = vault(&log, &master()).await;
    let (ada, bob) = (customer(), customer());
    let sealed = vault.seal(ada, &address("Berlin")).await.unwrap();
    vault.seal(bob, &address("Bonn")).await.unwrap();
    let bytes = sealed.bytes().unwrap();
    let moved = Personal::<Address>::sealed(bob, &bytes);
    let mut bytes = bytes;
    bytes[40] ^= 1;
    let changed = Personal::<Address>::sealed(ada, &bytes);
    for wrong in [moved, changed, Personal::sealed(ada, b"short")] {
        let opened = vault.open(&wrong).await;
        assert!(matches!(opened, Err(VaultError::Changed { .. })), "{opened:?}");
    }

    // A row that is gone, as after a restore that lost it; the database itself would refuse.
    let owner = superuser(&url).await;
    assert!(sqlx::query("delete from subject_keys").execute(&owner).await.is_err());
    sqlx::raw_sql("set session_replication_role = replica; delete from subject_keys")
        .execute(&mut *owner.acquire().await.unwrap())
        .await
        .unwrap();
    let fresh = Vault::new(
        log.store.pool().clone(),
        MasterKeys::new(master().parse().unwrap(), Vec::new()),
        Chance::system(),
    );
    let opened = fresh.open(&sealed).await;
    assert!(matches!(opened, Err(VaultError::Missing { .. })), "{opened:?}");
    log.end().await;
}

#[tokio::test]
async fn an_erased_key_cannot_be_put_back_and_its_record_not_rewritten() {
    let (url, log) = log().await;
    let vault = vault(&log, &master()).await;
    let ada = customer();
    vault.seal(ada, &address("Berlin")).await.unwrap();
    let owner = superuser(&url).await;
    let kept: Vec<u8> =
        sqlx::query_scalar("select wrapped_key from subject_keys").fetch_one(&owner).await.unwrap();
    vault.erase(ada, "test", "asked to").await.unwrap();
    let back = "update subject_keys set wrapped_key = $1, erased_at = null, erased_by = null,
                reason = null, master_key = (select key_id from master_keys)";
    let refused = sqlx::query(back).bind(kept).execute(&owner).await.unwrap_err();
    assert!(refused.to_string().contains("never brought back"), "{refused}");
    let rewritten = sqlx::query("update subject_keys set reason = 'another'").execute(&owner).await;
    assert!(rewritten.is_err());
    log.end().await;
}

#[tokio::test]
async fn a_master_key_is_replaced_while_everything_stays_readable() {
    let (_, log) = log().await;
    let (old, new) = (master(), master());
    let before = vault(&log, &old).await;
    let (ada, bob) = (customer(), customer());
    let sealed = before.seal(ada, &address("Berlin")).await.unwrap();
    let erased = before.seal(bob, &address("Bonn")).await.unwrap();
    before.erase(bob, "test", "asked to").await.unwrap();

    // First everybody knows the new one, then everybody uses it.
    let knowing = vault_with(&log, &old, &[&new]);
    knowing.introduce().await.unwrap();
    let using = vault_with(&log, &new, &[&old]);
    using.introduce().await.unwrap();
    assert!(matches!(before.check().await, Err(Error::Config(_))));
    let fresh = using.seal(customer(), &address("Köln")).await.unwrap();
    let opened = knowing.open_many(&[&sealed, &erased, &fresh]).await.unwrap();
    assert_eq!(opened, [Some(address("Berlin")), None, Some(address("Köln"))]);

    let mut told = Vec::new();
    let rewrapped = using.rewrap(|progress| told.push(progress)).await.unwrap();
    assert_eq!((rewrapped.done, rewrapped.total), (1, 1));
    assert_eq!(told.last(), Some(&rewrapped));
    assert_eq!(using.rewrap(|_| {}).await.unwrap().done, 0, "what is done stays done");

    let after = vault(&log, &new).await;
    let opened = after.open_many(&[&sealed, &erased, &fresh]).await.unwrap();
    assert_eq!(opened, [Some(address("Berlin")), None, Some(address("Köln"))]);
    let late = vault_with(&log, &old, &[]);
    assert!(matches!(late.introduce().await, Err(Error::Config(_))));
    log.end().await;
}
