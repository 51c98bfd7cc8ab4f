-- The keys of personal data: one for each person, wrapped by a master key that no database knows.
--
-- Erasing somebody takes the wrapped key out of its row. Whatever was sealed under it, in whatever
-- copy, stays as it is and opens no more; the row stays as the proof.

-- The master keys that wrap something here, or have. `key_id` is made of the key by a one-way
-- function: it tells whether a key that somebody was given is the right one, and nothing else.
create table master_keys (
    key_id        bytea       not null primary key check (octet_length(key_id) = 8),
    introduced_at timestamptz not null default now(),
    -- Since when it wraps nothing any more.
    retired_at    timestamptz
);

create table subject_keys (
    subject_id  uuid        not null,
    -- Counted from 1. Who comes back after having been erased is given another key, which opens
    -- nothing of before.
    generation  integer     not null check (generation > 0),
    -- Nonce, key and tag: 12 + 32 + 16 bytes. Null: destroyed.
    wrapped_key bytea       check (octet_length(wrapped_key) = 60),
    master_key  bytea       references master_keys (key_id),
    made_at     timestamptz not null default now(),
    erased_at   timestamptz,
    erased_by   text,
    reason      text,
    primary key (subject_id, generation),
    check ((wrapped_key is null) = (master_key is null)),
    check ((wrapped_key is null) = (erased_at is not null)),
    check ((erased_at is null) = (erased_by is null)),
    check ((erased_at is null) = (reason is null))
);

-- At most one key of a person opens something, and that is the last one.
create unique index subject_keys_live on subject_keys (subject_id) where wrapped_key is not null;
-- For the rotation, which looks for what another master key has wrapped.
create index subject_keys_master on subject_keys (master_key, subject_id) where wrapped_key is not null;

-- What was destroyed stays destroyed, and what stands in a tombstone stands.
create function subject_keys_refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'the key of an erased subject is never brought back, and no key is removed'
        using errcode = 'restrict_violation', hint = 'seal under a new generation of the key';
end $$;

create trigger subject_keys_stay_erased before update on subject_keys
    for each row when (old.wrapped_key is null) execute function subject_keys_refuse_change();
create trigger subject_keys_stay before delete on subject_keys
    for each row execute function subject_keys_refuse_change();

grant select, insert on subject_keys, master_keys to waybill_write;
grant update (wrapped_key, master_key, erased_at, erased_by, reason) on subject_keys to waybill_write;
grant update (retired_at) on master_keys to waybill_write;
grant select on subject_keys, master_keys to waybill_read;
