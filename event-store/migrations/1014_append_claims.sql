-- Appends a batch as 1002 says; it differs in how it finds out where the streams stand. Looking every
-- stream up first and then again to change it was an eighth of a batch. Now the change is made where the
-- version is the expected one, and counted; where a stream was not found so, it is taken back.
create or replace function log_append(
    hint             bigint,
    known_ids        uuid[],
    stream_ids       uuid[],
    stream_names     text[],
    stream_bases     bigint[],
    stream_versions  bigint[],
    stream_firsts    bigint[],
    stream_lasts     bigint[],
    command_ids      uuid[],
    command_hashes   bytea[],
    command_streams  uuid[],
    command_versions bigint[],
    command_lasts    bigint[],
    command_codes    text[],
    command_details  text[],
    event_streams    uuid[],
    event_versions   bigint[],
    event_ids        uuid[],
    event_commands   uuid[],
    event_correlations uuid[],
    event_causations uuid[],
    event_times      timestamptz[],
    event_slices     smallint[],
    event_categories text[],
    event_types      text[],
    event_actors     text[],
    event_traces     text[],
    event_payloads   json[],
    out written      boolean,
    out head         bigint,
    out found_ids      uuid[],
    out found_hashes   bytea[],
    out found_versions bigint[],
    out found_positions bigint[],
    out found_codes    text[],
    out found_details  text[],
    out current_versions bigint[],
    out current_names  text[]
) language plpgsql volatile as $$
#variable_conflict use_variable
declare
    near constant bigint := 1000000;
    at    timestamptz;
    moved integer := 0; -- Streams that existed, and have grown.
    begun integer := 0; -- Streams that are new.
    stood integer := 0; -- Streams that were only read.
begin
    if pg_advisory_xact_lock(24560174593821772) is null then end if;

    select e.position, e.recorded_at into head, at
    from events e where e.position between hint and hint + near order by e.position desc limit 1;
    if not found or head = hint + near then
        select e.position, e.recorded_at into head, at from events e order by e.position desc limit 1;
        head := coalesce(head, 0);
    end if;
    at := greatest(date_trunc('milliseconds', clock_timestamp()), at);

    written := not exists (
        select from commands c
        where c.command_id = any (known_ids) and c.recorded_at < at + interval '1 day');

    if written then
        begin
            if 0 < any (stream_bases) then
                update streams s set version = stream_versions[i], last_position = head + stream_lasts[i]
                from (select generate_subscripts(stream_ids, 1) as i) as n
                where s.stream_id = stream_ids[i]
                    and stream_bases[i] > 0 and stream_versions[i] > stream_bases[i]
                    and s.version = stream_bases[i] and s.category = stream_names[i];
                get diagnostics moved = row_count;
            end if;
            if 0 = any (stream_bases) then
                insert into streams (stream_id, category, version, first_position, last_position)
                select stream_ids[i], stream_names[i], stream_versions[i],
                    head + stream_firsts[i], head + stream_lasts[i]
                from (select generate_subscripts(stream_ids, 1) as i) as n
                where stream_bases[i] = 0 and stream_versions[i] > 0;
                get diagnostics begun = row_count;
            end if;
            if moved + begun < cardinality(stream_ids) then
                select count(*) into stood
                from (select generate_subscripts(stream_ids, 1) as i) as n
                left join streams s on s.stream_id = stream_ids[i]
                where stream_versions[i] = stream_bases[i]
                    and coalesce(s.version, 0) = stream_bases[i]
                    and coalesce(s.category, stream_names[i]) = stream_names[i];
            end if;
            if moved + begun + stood < cardinality(stream_ids) then
                raise sqlstate 'WB001';
            end if;
        exception when sqlstate 'WB001' or unique_violation then -- What the block did is undone.
            written := false;
        end;
    end if;

    if not written then
        select array_agg(c.command_id), array_agg(c.request_hash), array_agg(c.version),
               array_agg(c.position), array_agg(c.refusal_code), array_agg(c.refusal_detail)
        into found_ids, found_hashes, found_versions, found_positions, found_codes, found_details
        from commands c where c.command_id = any (known_ids);
        select array_agg(coalesce(s.version, 0) order by b.ordinal), array_agg(s.category order by b.ordinal)
        into current_versions, current_names
        from unnest(stream_ids) with ordinality as b (id, ordinal)
        left join streams s on s.stream_id = b.id;
        return;
    end if;

    if cardinality(event_ids) > 0 then
        insert into events (
            position, stream_id, stream_version, event_id, command_id, correlation_id,
            causation_id, occurred_at, recorded_at, slice, category, event_type,
            actor, traceparent, payload)
        select head + i, event_streams[i], event_versions[i], event_ids[i], event_commands[i],
            event_correlations[i], event_causations[i], event_times[i], at, event_slices[i],
            event_categories[i], event_types[i], event_actors[i], event_traces[i], event_payloads[i]
        from (select generate_subscripts(event_ids, 1) as i) as n;
    end if;

    insert into commands (
        command_id, request_hash, stream_id, version, position, recorded_at, refusal_code, refusal_detail)
    select command_ids[i], command_hashes[i], command_streams[i], command_versions[i],
        head + command_lasts[i], at, command_codes[i], command_details[i]
    from (select generate_subscripts(command_ids, 1) as i) as n;
end $$;
