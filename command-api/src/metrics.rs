//! What is sold, in numbers, as it is ordered.

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};
use schemas::Money;

const ORDERS: &str = "orders_created_total";
/// The histogram of what orders come to.
pub const ORDER_VALUE: &str = "order_value";

/// What [`ORDER_VALUE`] is counted in, in minor units.
pub const ORDER_VALUE_BUCKETS: &[f64] = &[
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    25_000.0,
    50_000.0,
    100_000.0,
    250_000.0,
    1_000_000.0,
];

/// Says what the numbers of this crate mean. Once per process, after its recorder is there.
pub fn describe_metrics() {
    describe_counter!(ORDERS, Unit::Count, "Orders that were placed");
    describe_histogram!(ORDER_VALUE, "What they come to, in minor units of their currency");
}

/// Counts an order. Currencies are those of ISO 4217, so the labels are few.
pub(crate) fn ordered(total: Money) {
    let currency = total.currency.to_string();
    counter!(ORDERS, "currency" => currency.clone()).increment(1);
    #[expect(clippy::cast_precision_loss, reason = "it is counted by size")]
    histogram!(ORDER_VALUE, "currency" => currency).record(total.amount as f64);
}
