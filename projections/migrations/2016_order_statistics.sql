-- Some customers' orders are not like those of others: all rejected, say. Without counts of both
-- columns together Postgres takes them for independent, and walks through everybody's orders.

set local role waybill_write;

create statistics read_models.order_summary_customer_status (mcv) on customer, status
    from read_models.order_summary;

reset role;
