-- The timeline says which conversation and which trace an event came from. Rows of the version
-- before do not know.

set local role waybill_write;

alter table read_models.order_timeline
    add column correlation_id uuid,
    add column traceparent    text;

reset role;
