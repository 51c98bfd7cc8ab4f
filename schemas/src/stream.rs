//! The written forms of a stream's name, as people and tools give them.

use std::str::FromStr;

use uuid::Uuid;

use crate::{
    Category, FulfilmentId, OrderId, PaymentId, ReservationId, SagaId, Sku, StreamId, inventory,
};

/// Why a text names no stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a stream is named by the id of its thing (`ord_…`, `pay_…`, `rsv_…`, `ful_…`, `sag_…`), by its \
     category and UUID (`order/0197…`), or by its sku (`sku/mug`)"
)]
pub struct StreamIdError;

impl FromStr for StreamId {
    type Err = StreamIdError;

    fn from_str(text: &str) -> Result<Self, StreamIdError> {
        match text.split_once('/') {
            Some((category, id)) => Self::named(category, id),
            None => thing(text),
        }
    }
}

impl StreamId {
    /// The stream of `category` (or `sku`) whose thing is called `id`: a UUID, or the id of a thing
    /// of that category.
    ///
    /// # Errors
    /// [`StreamIdError`] where that names none.
    pub fn named(category: &str, id: &str) -> Result<Self, StreamIdError> {
        if category == "sku" {
            let sku: Sku = id.parse().map_err(|_| StreamIdError)?;
            return Ok(inventory::stock_stream(&sku));
        }
        let ours = Category::ALL.into_iter().find(|ours| ours.as_str() == category);
        let category = ours.ok_or(StreamIdError)?;
        match Uuid::try_parse(id) {
            Ok(id) => Ok(Self::new(category, id)),
            Err(_) => thing(id).and_then(|stream| {
                if stream.category == category { Ok(stream) } else { Err(StreamIdError) }
            }),
        }
    }
}

/// The stream of a thing, by the kind that its id tells.
fn thing(id: &str) -> Result<StreamId, StreamIdError> {
    let (kind, _) = id.split_once('_').ok_or(StreamIdError)?;
    let stream = match kind {
        OrderId::PREFIX => id.parse().map(OrderId::stream),
        PaymentId::PREFIX => id.parse().map(PaymentId::stream),
        ReservationId::PREFIX => id.parse().map(ReservationId::stream),
        FulfilmentId::PREFIX => id.parse().map(FulfilmentId::stream),
        SagaId::PREFIX => id.parse().map(SagaId::stream),
        _ => return Err(StreamIdError),
    };
    stream.map_err(|_| StreamIdError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_named_in_several_ways() {
        let id = Uuid::from_u128(7);
        let order = OrderId::new(id).stream();
        for text in [
            "ord_00000000000000000000000000000007",
            "order/00000000000000000000000000000007",
            "order/00000000-0000-0000-0000-000000000007",
            "order/ord_00000000000000000000000000000007",
        ] {
            assert_eq!(text.parse(), Ok(order), "{text}");
        }
        assert_eq!(order.to_string().parse(), Ok(order));
        assert_eq!(SagaId::new(id).to_string().parse(), Ok(SagaId::new(id).stream()));
        let mug = inventory::stock_stream(&"mug".parse().unwrap());
        assert_eq!("sku/mug".parse(), Ok(mug));
    }

    #[test]
    fn what_names_no_stream_is_refused() {
        for text in [
            "",
            "order",
            "order/",
            "order/7",
            "orders/00000000000000000000000000000007",
            "payment/ord_00000000000000000000000000000007",
            "usr_00000000000000000000000000000007",
            "ord_7",
            "sku/..",
        ] {
            assert_eq!(text.parse::<StreamId>(), Err(StreamIdError), "{text}");
        }
    }
}
