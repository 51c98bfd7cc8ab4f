//! How long others take, and whether they are asked at all.

use std::time::Duration;

use metrics::{Unit, describe_gauge, describe_histogram, gauge, histogram};
use schemas::payment::{Event, Operation};

/// The histogram of how long the payment provider takes.
pub const PAYMENT_SECONDS: &str = "payment_processing_duration_seconds";
const BREAKER_OPEN: &str = "waybill_breaker_open_flag";

/// What [`PAYMENT_SECONDS`] are counted in: from a good answer to all tries of a bad one.
pub const PAYMENT_SECONDS_BUCKETS: &[f64] =
    &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Says what the numbers of this crate mean. Once per process, after its recorder is there.
pub fn describe_metrics() {
    describe_histogram!(
        PAYMENT_SECONDS,
        Unit::Seconds,
        "From asking the payment provider to its answer, with all tries"
    );
    describe_gauge!(BREAKER_OPEN, "Whether nobody there is asked for now: 1 or 0");
}

/// The payment provider was asked what `fact` says.
pub(crate) fn asked(fact: &Event, took: Duration) {
    let operation = match fact {
        Event::AuthorisationRequested { .. }
        | Event::OutcomeUnknown { operation: Operation::Authorise, .. } => "authorise",
        Event::CaptureRequested { .. }
        | Event::OutcomeUnknown { operation: Operation::Capture, .. } => "capture",
        Event::RefundRequested { .. }
        | Event::OutcomeUnknown { operation: Operation::Refund, .. } => "refund",
        Event::VoidRequested { .. }
        | Event::ClosingRequested { .. }
        | Event::OutcomeUnknown { operation: Operation::Void, .. } => "void",
        _ => "look",
    };
    histogram!(PAYMENT_SECONDS, "operation" => operation).record(took);
}

/// The circuit breaker of an adapter opened or closed.
pub(crate) fn breaker(adapter: &'static str, open: bool) {
    gauge!(BREAKER_OPEN, "adapter" => adapter).set(u32::from(open));
}
