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

-- What happened. A leaf holds ten million positions (`log_settings`). Every index costs each append, so there are
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

-- What is chosen once for a log; one row.
create table log_settings (
    only_row       boolean not null primary key default true check (only_row),
    -- Positions in a leaf of `events`. Leaves lie on this grid, so another size is chosen while
    -- there is none: drop them, set it, have them made again.
    leaf_positions bigint  not null default 10000000 check (leaf_positions > 0)
);
insert into log_settings default values;

-- The leaves of the log as they lie: positions for `events`, times for `commands`; the first is
-- in the leaf, the one it ends before is not. `live_rows` is an estimate, -1 where nobody has counted.
create view log_leaves as
select parent.relname::text as parent, leaf.relname::text as leaf,
       case when parent.relname = 'events' then bounds.low::bigint end as from_position,
       case when parent.relname = 'events' then bounds.high::bigint end as before_position,
       case when parent.relname = 'commands' then bounds.low::timestamptz end as from_time,
       case when parent.relname = 'commands' then bounds.high::timestamptz end as before_time,
       leaf.reltuples::bigint as live_rows,
       coalesce(pg_total_relation_size(leaf.oid), 0) as bytes, -- Nothing where it is being dropped.
       obj_description(leaf.oid, 'pg_class') as note
from pg_inherits
join pg_class parent on parent.oid = inhparent
join pg_class leaf on leaf.oid = inhrelid,
lateral (
    select found[1] as low, found[2] as high
    from regexp_match(
        pg_get_expr(leaf.relpartbound, leaf.oid), 'FROM \(''?([^'')]+)''?\) TO \(''?([^'')]+)''?\)')
        as found
) as bounds
where inhparent in ('events'::regclass, 'commands'::regclass)
order by 1, 3, 5;

-- Makes the leaf of `events` with this number, unless there is one. It is filled in before it is
-- attached, so that appends are not held up.
create function log_make_events_leaf(number bigint) returns void language plpgsql as $$
declare
    size bigint := (select leaf_positions from log_settings);
    leaf text := 'events_' || lpad(number::text, 5, '0');
begin
    if to_regclass(leaf) is not null then
        return;
    end if;
    execute format('create table %I (like events including defaults including constraints)', leaf);
    execute format('create unique index %I on %I (stream_id, stream_version)', leaf || '_stream', leaf);
    execute format(
        'create trigger events_refuse_truncate before truncate on %I'
        ' for each statement execute function events_refuse_change()', leaf);
    execute format(
        'alter table events attach partition %I for values from (%s) to (%s)',
        leaf, number * size, (number + 1) * size);
end $$;

-- Makes the leaf of `commands` that this moment falls into, unless there is one.
create function log_make_commands_leaf(moment timestamptz) returns void language plpgsql as $$
declare
    week timestamptz := date_trunc('week', moment, 'UTC');
    leaf text := 'commands_' || to_char(week at time zone 'UTC', 'IYYY"w"IW');
begin
    if to_regclass(leaf) is not null then
        return;
    end if;
    execute format('create table %I (like commands including defaults including constraints)', leaf);
    execute format(
        'alter table commands attach partition %I for values from (%L) to (%L)',
        leaf, week, week + interval '7 days');
end $$;

-- Makes the leaves that the next appends need: of `events` the current one and two ahead, of
-- `commands` this week's and two ahead. Runs as its owner, since whoever serves may not create
-- tables.
create function log_ahead() returns void language plpgsql security definer as $$
declare
    current_leaf bigint;
begin
    perform pg_advisory_xact_lock(24560174593821773); -- One at a time.
    select coalesce(max(position), 0) / (select leaf_positions from log_settings)
    into current_leaf from events;
    for number in current_leaf .. current_leaf + 2 loop
        perform log_make_events_leaf(number);
    end loop;
    for number in 0 .. 2 loop
        perform log_make_commands_leaf(now() + number * interval '7 days');
    end loop;
end $$;

-- Drops the leaves of the ledger that ended longer ago than `keep`, and names them. Runs as its
-- owner, like `log_ahead`; whoever serves may choose the window, but not one below a week, in which
-- a caller may still send its command again. Dropping waits for readers of the ledger and has
-- appends wait meanwhile: after two seconds it gives up until the next time.
create function log_forget(keep interval) returns setof text
    language plpgsql security definer set lock_timeout = '2s' as $$
declare
    keep_min constant interval := interval '7 days';
    old      text;
begin
    if keep is null or keep < keep_min then
        raise exception 'the ledger is kept for % at least', keep_min
            using errcode = 'invalid_parameter_value', hint = 'choose a longer window';
    end if;
    perform pg_advisory_xact_lock(24560174593821773);
    for old in
        select l.leaf from log_leaves l
        where l.parent = 'commands' and l.before_time <= now() - keep order by l.before_time
    loop
        execute format('drop table %I', old);
        return next old;
    end loop;
end $$;

-- What runs as the owner must not be led astray: the schema of a session's temporary tables, which
-- anybody may make, comes last.
do $$
begin
    execute format('alter function log_ahead() set search_path = %I, pg_temp', current_schema());
    execute format(
        'alter function log_forget(interval) set search_path = %I, pg_temp', current_schema());
    execute format('revoke create on schema %I from public', current_schema());
end $$;

select log_ahead();

grant select, insert on events to waybill_write;
grant select, insert on commands to waybill_write;
grant select, insert, update on streams to waybill_write;
grant select on log_settings, log_leaves to waybill_write;
revoke execute on function log_make_events_leaf(bigint), log_make_commands_leaf(timestamptz),
    log_ahead(), log_forget(interval) from public;
grant execute on function log_ahead(), log_forget(interval) to waybill_write;
