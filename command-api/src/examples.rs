//! Ids that stand in examples.

pub(crate) const ORDER: &str = "ord_0197b0c0000070008000000000000002";
pub(crate) const PAYMENT: &str = "pay_0197b0c0000070008000000000000003";
pub(crate) const SAGA: &str = "sag_0197b0c0000070008000000000000004";
pub(crate) const FULFILMENT: &str = "ful_0197b0c0000070008000000000000005";
