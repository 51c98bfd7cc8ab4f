-- The log: what happened (events), where every stream stands (streams), and what every command
-- was answered (commands).
--
-- The head of the log has no row of its own. Appends are one at a time under an advisory lock,
-- and the last position is the last key of `events`, found by walking its primary key backwards
-- from the end. A head row that every append updates leaves a dead version behind each time; under
-- a snapshot that stays open (a dump, a rebuild) those cannot be pruned, and every append walks
-- them. `events` is only ever inserted into, so its last key is always one step away. Measured on
-- Postgres 15, one event an append, CPU of the backend: row 61 us, key 75 us; after 30,000 appends
-- under an open snapshot: row 763 us, key 71 us.

do $$
begin
    create role waybill_write nologin;
exception when duplicate_object or unique_violation then null; -- Another database's migration made it.
end $$;

do $$
begin
    create role waybill_read nologin;
exception when duplicate_object or unique_violation then null;
end $$;

-- Whoever migrates may also serve. A superuser may without being asked.
do $$
begin
    if not pg_has_role(current_user, 'waybill_write', 'member') then
        execute format('grant waybill_write, waybill_read to %I', current_user);
    end if;
end $$;

-- Where a stream stands. `first_position` and `last_position` tell a load which leaves of
-- `events` to look into. Updated in place: nothing that changes is indexed.
create table streams (
    stream_id      uuid   not null primary key,
    category       text   not null,
    version        bigint not null,
    first_position bigint not null,
    last_position  bigint not null
) with (fillfactor = 80);

-- What every command was answered, so that asked again it hears the same. A command that changed
-- nothing and a refusal that is kept have a row as well. A leaf holds a week, and whole leaves
-- are dropped when nobody will ask again. The id is unique over all leaves because it is looked
-- up under the log's lock; the key only has to find it.
create table commands (
    command_id     uuid        not null,
    request_hash   bytea       not null,
    stream_id      uuid        not null,
    version        bigint      not null,
    position       bigint      not null,
    recorded_at    timestamptz not null,
    refusal_code   text,
    refusal_detail text,
    primary key (command_id, recorded_at)
) partition by range (recorded_at);

-- What happened. A leaf holds ten million positions. Every index costs each append, so there are
-- three: the position, the place in the stream (made on each leaf by `log_ahead`, for it does not
-- contain the position; `streams` makes it hold over all leaves), and the time.
create table events (
    position       bigint      not null,
    stream_id      uuid        not null,
    stream_version bigint      not null,
    event_id       uuid        not null,
    command_id     uuid        not null,
    correlation_id uuid        not null,
    causation_id   uuid        not null,
    occurred_at    timestamptz not null,
    recorded_at    timestamptz not null,
    slice          smallint    not null,
    category       text        not null,
    event_type     text        not null,
    actor          text        not null,
    traceparent    text,
    payload        json        not null,
    primary key (position)
) partition by range (position);

create index events_recorded_at on events using brin (recorded_at);

-- History is not rewritten, by anybody.
create function events_refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'events are never changed or removed'
        using errcode = 'restrict_violation', hint = 'append an event that says what is true now';
end $$;

create trigger events_refuse_change before update or delete on events
    for each row execute function events_refuse_change();
create trigger events_refuse_truncate before truncate on events
    for each statement execute function events_refuse_change();

-- Makes the leaves that the next appends need: of `events` the current one and two ahead, of
-- `commands` this week's and two ahead. Runs as its owner, since whoever serves may not create
-- tables. A new leaf is filled in before it is attached, so that appends are not held up.
create function log_ahead() returns void
    language plpgsql security definer set search_path from current as $$
declare
    leaf_size constant bigint := 10000000;
    head      bigint;
    leaf      text;
    week      timestamptz;
begin
    perform pg_advisory_xact_lock(24560174593821773); -- One at a time.
    select coalesce(max(position), 0) into head from events;
    for number in head / leaf_size .. head / leaf_size + 2 loop
        leaf := 'events_' || lpad(number::text, 5, '0');
        continue when to_regclass(leaf) is not null;
        execute format('create table %I (like events including defaults including constraints)', leaf);
        execute format('create unique index %I on %I (stream_id, stream_version)', leaf || '_stream', leaf);
        execute format(
            'create trigger events_refuse_truncate before truncate on %I'
            ' for each statement execute function events_refuse_change()', leaf);
        execute format(
            'alter table events attach partition %I for values from (%s) to (%s)',
            leaf, number * leaf_size, (number + 1) * leaf_size);
    end loop;
    for number in 0 .. 2 loop
        week := date_trunc('week', now(), 'UTC') + number * interval '7 days';
        leaf := 'commands_' || to_char(week at time zone 'UTC', 'IYYY"w"IW');
        continue when to_regclass(leaf) is not null;
        execute format('create table %I (like commands including defaults including constraints)', leaf);
        execute format(
            'alter table commands attach partition %I for values from (%L) to (%L)',
            leaf, week, week + interval '7 days');
    end loop;
end $$;

select log_ahead();

grant select, insert on events to waybill_write;
grant select, insert on commands to waybill_write;
grant select, insert, update on streams to waybill_write;
revoke execute on function log_ahead() from public;
grant execute on function log_ahead() to waybill_write;
