//! The carrier's API, as far as we speak it: `EasyPost`'s shipments, labels and pickups.

use schemas::{Address, FulfilmentId, Text};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::outbound::{Body, Outbound, Question};
use crate::outcome::{Outcome, Rejection};
use crate::{Config, ConfigError};

#[cfg(test)]
mod tests;

/// Why there is no label where the address was erased before one was bought.
const ADDRESS_ERASED: &str = "address_erased";

/// The weight we say a parcel has, in ounces, until the catalog knows better.
const PARCEL_OUNCES: u32 = 16;

/// The carrier's record of a parcel.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Shipment {
    pub(super) id: Text,
    /// The label's number, once it was bought.
    pub(super) tracking_code: Option<Text>,
    #[serde(default)]
    rates: Vec<Rate>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Rate {
    id: String,
    /// A decimal, as `5.00`.
    rate: String,
}

impl Shipment {
    /// The cheapest way to send it. Rates are decimals with as many digits each, so that the
    /// shorter is the smaller and equally long ones compare as text.
    fn cheapest(&self) -> Option<&str> {
        let cheapest = self.rates.iter().min_by_key(|rate| (rate.rate.len(), rate.rate.as_str()));
        cheapest.map(|rate| rate.id.as_str())
    }
}

/// The carrier.
#[derive(Debug)]
pub(super) struct Api(Outbound);

impl Api {
    /// Sets up the way there.
    ///
    /// # Errors
    /// Where `config` is no good.
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        Outbound::new("carrier", config).map(Self)
    }

    async fn shipment(&self, question: Question) -> Outcome<Shipment> {
        self.0.ask(&question).await.and_then(|json| match Shipment::deserialize(&json) {
            Ok(shipment) => Outcome::Ok(shipment),
            // What serde says may quote the answer, and that the address.
            Err(_) => Outcome::Unknown("the answer is not a shipment".to_owned()),
        })
    }

    /// The parcel of `fulfilment`, with a label. Whatever an earlier attempt left behind is found
    /// by its reference and gone on with, so that no label is bought twice. Without an `address`,
    /// since it was erased, none is bought; one that was bought before is still found, so that it
    /// can be given back.
    pub(super) async fn buy_label(
        &self,
        fulfilment: FulfilmentId,
        address: Option<&Address>,
    ) -> Outcome<Shipment> {
        let shipment = match self.find(fulfilment).await {
            Outcome::Ok(shipment) => shipment,
            Outcome::Rejected(rejection) if rejection.status == 404 => {
                let Some(address) = address else { return address_erased() };
                match self.create(fulfilment, address).await {
                    Outcome::Ok(shipment) => shipment,
                    outcome => return outcome,
                }
            }
            outcome => return outcome,
        };
        if shipment.tracking_code.is_some() {
            return Outcome::Ok(shipment);
        }
        if address.is_none() {
            return address_erased();
        }
        match self.buy(fulfilment, &shipment).await {
            // Somebody did in the meantime: perhaps we, and the answer was lost.
            Outcome::Rejected(rejection) if rejection.code() == "SHIPMENT.POSTAGE.EXISTS" => {
                self.find(fulfilment).await
            }
            outcome => outcome,
        }
    }

    async fn find(&self, fulfilment: FulfilmentId) -> Outcome<Shipment> {
        let reference = fulfilment.to_string();
        self.shipment(Question::get("find", &["v2", "shipments", &reference])).await
    }

    async fn create(&self, fulfilment: FulfilmentId, address: &Address) -> Outcome<Shipment> {
        let body = json!({ "shipment": {
            "reference": fulfilment.to_string(),
            "to_address": to_address(address),
            "parcel": { "weight": PARCEL_OUNCES },
        } });
        let key = format!("{fulfilment}:create");
        self.shipment(Question::post("create", &["v2", "shipments"], key, Body::Json(body))).await
    }

    async fn buy(&self, fulfilment: FulfilmentId, shipment: &Shipment) -> Outcome<Shipment> {
        let Some(rate) = shipment.cheapest() else {
            let error = json!({ "code": "no_rate", "message": "The carrier offers no rate." });
            return Outcome::Rejected(Rejection { status: 422, error });
        };
        let path = ["v2", "shipments", shipment.id.as_str(), "buy"];
        let body = Body::Json(json!({ "rate": { "id": rate } }));
        let key = format!("{fulfilment}:buy:{}", shipment.id);
        self.shipment(Question::post("buy", &path, key, body)).await
    }

    /// Has the parcel fetched.
    pub(super) async fn pick_up(
        &self,
        fulfilment: FulfilmentId,
        carrier_ref: &Text,
    ) -> Outcome<Value> {
        let body = json!({ "pickup": {
            "reference": fulfilment.to_string(), "shipment": { "id": carrier_ref },
        } });
        let key = format!("{fulfilment}:pickup:{carrier_ref}");
        self.0.ask(&Question::post("pickup", &["v2", "pickups"], key, Body::Json(body))).await
    }

    /// Gives a label back.
    pub(super) async fn refund_label(
        &self,
        fulfilment: FulfilmentId,
        carrier_ref: &Text,
    ) -> Outcome<Value> {
        let path = ["v2", "shipments", carrier_ref.as_str(), "refund"];
        let key = format!("{fulfilment}:refund:{carrier_ref}");
        self.0.ask(&Question::post("refund", &path, key, Body::None)).await
    }
}

/// Nothing can be sent to somebody who was erased. Our own no: the carrier is not asked.
fn address_erased() -> Outcome<Shipment> {
    let error = json!({ "code": ADDRESS_ERASED, "message": "The address was erased." });
    Outcome::Rejected(Rejection { status: 422, error })
}

fn to_address(address: &Address) -> Value {
    // `DE-BE` is state `BE` of country `DE`.
    let region = address.region.as_ref().map(Text::as_str);
    let state = region.map(|region| region.split_once('-').map_or(region, |(_, state)| state));
    json!({
        "name": address.name,
        "company": address.company,
        "street1": address.line1,
        "street2": address.line2,
        "city": address.city,
        "state": state,
        "zip": address.postal_code,
        "country": address.country,
        "phone": address.phone,
        "email": address.email,
    })
}
