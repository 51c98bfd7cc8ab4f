//! Names under which the platform itself acts: no caller may go by one of them.

/// A customer, whichever: events name no persons.
pub const CUSTOMER: &str = "customer";
/// A saga that issued a command.
pub const SAGA: &str = "saga";
/// What speaks with the payment provider.
pub const PAYMENT_ADAPTER: &str = "payment-adapter";
/// What speaks with the carrier.
pub const CARRIER_ADAPTER: &str = "carrier-adapter";
/// Whoever of the platform, as customers are shown it.
pub const WAYBILL: &str = "waybill";

/// Whether `name` is one of them, or could be taken for one.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let (first, _) = name.split_once('/').unwrap_or((&name, ""));
    [CUSTOMER, SAGA, WAYBILL, "system", "adapter", "projection"].contains(&first)
        || name.ends_with("-adapter")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_taken_for_the_platform_is_reserved() {
        for name in [
            CUSTOMER,
            SAGA,
            PAYMENT_ADAPTER,
            CARRIER_ADAPTER,
            WAYBILL,
            "saga/order-fulfilment",
            "saga/timers",
            "adapter/payments",
            "projection/order_summary",
            "System",
            "SAGA",
        ] {
            assert!(is_reserved(name), "{name}");
        }
        for name in ["developer", "shop", "saga-service", "customers", "client/7", "ada@id.example"]
        {
            assert!(!is_reserved(name), "{name}");
        }
    }
}
