-- Sagas tell which inputs they keep for later, so that these count no more once they are heard,
-- and are listed by the reason for which they are parked.

set local role waybill_write;

alter table read_models.saga_view
    add column deferred_sources jsonb not null default '[]';

create index on read_models.saga_view ((parked ->> 'reason'), started_at, saga_id)
    where parked is not null;

reset role;
