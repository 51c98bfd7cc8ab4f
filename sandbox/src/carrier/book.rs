//! The carrier's books, and the rules of what may be done with a parcel.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::refusal::Refusal;
use super::shipment::{Scan, Shipment, Status};
use crate::call::Form;
use crate::desk::{self, Effect, Moment};

/// Largest page of the books, and the usual one.
const PAGE_MAX: usize = 1000;
const PAGE: usize = 100;
/// Scans kept of one parcel.
const SCANS_MAX: usize = 100;
/// The country that is not served.
const UNSERVED: &str = "AQ";

/// Every parcel. Ids sort by age.
#[derive(Debug, Default)]
pub(crate) struct Book {
    shipments: BTreeMap<String, Shipment>,
    by_reference: BTreeMap<String, String>,
    by_tracking_code: BTreeMap<String, String>,
    /// Parcels that were picked up and that nobody has begun to scan.
    picked_up: VecDeque<String>,
}

impl desk::Book for Book {
    type Object = Shipment;

    fn restore(&mut self, shipment: Shipment) {
        if shipment.pickup.is_some() && shipment.status() != Status::Delivered {
            if !self.picked_up.contains(&shipment.id) {
                self.picked_up.push_back(shipment.id.clone());
            }
        } else {
            self.picked_up.retain(|id| *id != shipment.id);
        }
        self.put(shipment);
    }
}

type Done = Result<Effect<Shipment>, Refusal>;

impl Book {
    fn put(&mut self, shipment: Shipment) {
        if let Some(reference) = &shipment.reference {
            // The first of a reference keeps it.
            self.by_reference.entry(reference.clone()).or_insert_with(|| shipment.id.clone());
        }
        if let Some(code) = &shipment.tracking_code {
            self.by_tracking_code.insert(code.clone(), shipment.id.clone());
        }
        self.shipments.insert(shipment.id.clone(), shipment);
    }

    /// By id, reference or tracking code.
    fn find(&self, name: &str) -> Result<&Shipment, Refusal> {
        let id = self
            .by_reference
            .get(name)
            .or_else(|| self.by_tracking_code.get(name))
            .map_or(name, String::as_str);
        self.shipments.get(id).ok_or_else(Refusal::missing)
    }

    fn changed(&mut self, shipment: Shipment, status: StatusCode, body: Value) -> Effect<Shipment> {
        self.put(shipment.clone());
        let objects = vec![shipment];
        Effect { objects, ..Effect::answer(status, body) }
    }

    /// `POST /v2/shipments`
    pub(super) fn create(&mut self, json: &Value, moment: &Moment<'_>) -> Done {
        let given = json.get("shipment").unwrap_or(json);
        let to_address = given.get("to_address").filter(|address| address.is_object());
        let to_address = to_address.ok_or_else(|| Refusal::parameter("to_address"))?.clone();
        let country = to_address.get("country").and_then(Value::as_str);
        match country {
            None => return Err(Refusal::parameter("to_address.country")),
            Some(UNSERVED) => {
                let message = "Unable to deliver to this address.";
                return Err(Refusal::impossible("ADDRESS.VERIFY.FAILURE", message));
            }
            Some(_) => {}
        }
        let shipment = Shipment {
            id: moment.id("shp_"),
            reference: given.get("reference").and_then(Value::as_str).map(str::to_owned),
            to_address,
            parcel: given.get("parcel").cloned().unwrap_or_default(),
            created: moment.now,
            tracking_code: None,
            refunded: false,
            pickup: None,
            scans: Vec::new(),
        };
        let body = shipment.json();
        Ok(self.changed(shipment, StatusCode::CREATED, body))
    }

    /// `POST /v2/shipments/{id}/buy`: once.
    pub(super) fn buy(&mut self, id: &str, json: &Value, moment: &Moment<'_>) -> Done {
        let mut shipment = self.find(id)?.clone();
        let rate = json.pointer("/rate/id").and_then(Value::as_str);
        if rate.is_none_or(|rate| Some(rate) != shipment.rate()["id"].as_str()) {
            return Err(Refusal::parameter("rate"));
        }
        if shipment.tracking_code.is_some() {
            let message = "Postage already exists for this shipment.";
            return Err(Refusal::impossible("SHIPMENT.POSTAGE.EXISTS", message));
        }
        shipment.tracking_code = Some(moment.id("EZ").to_ascii_uppercase());
        let body = shipment.json();
        Ok(self.changed(shipment, StatusCode::OK, body))
    }

    /// `POST /v2/shipments/{id}/refund`: gives the label back, while the parcel was not seen.
    pub(super) fn refund(&mut self, id: &str, _: &Moment<'_>) -> Done {
        let mut shipment = self.find(id)?.clone();
        if shipment.tracking_code.is_none() {
            let message = "There is no label to refund.";
            return Err(Refusal::impossible("SHIPMENT.REFUND.UNAVAILABLE", message));
        }
        if shipment.pickup.is_some() || !shipment.scans.is_empty() {
            let message = "The parcel is on its way.";
            return Err(Refusal::impossible("SHIPMENT.REFUND.IN_TRANSIT", message));
        }
        if shipment.refunded {
            let message = "The label was refunded before.";
            return Err(Refusal::impossible("SHIPMENT.REFUND.EXISTS", message));
        }
        shipment.refunded = true;
        let body = shipment.json();
        Ok(self.changed(shipment, StatusCode::OK, body))
    }

    /// `POST /v2/pickups`: the carrier has the parcel from here on.
    pub(super) fn pickup(&mut self, json: &Value, moment: &Moment<'_>) -> Done {
        let given = json.get("pickup").unwrap_or(json);
        let id = given.pointer("/shipment/id").and_then(Value::as_str);
        let mut shipment = self.find(id.ok_or_else(|| Refusal::parameter("shipment"))?)?.clone();
        if shipment.tracking_code.is_none() || shipment.refunded {
            let message = "There is no valid label on the parcel.";
            return Err(Refusal::impossible("PICKUP.LABEL.MISSING", message));
        }
        if shipment.pickup.is_some() {
            let message = "The parcel was picked up before.";
            return Err(Refusal::impossible("PICKUP.EXISTS", message));
        }
        let pickup = moment.id("pickup_");
        shipment.pickup = Some(pickup.clone());
        self.picked_up.push_back(shipment.id.clone());
        let body = json!({
            "id": pickup,
            "object": "Pickup",
            "mode": "test",
            "status": "scheduled",
            "reference": given.get("reference"),
            "shipment": { "id": shipment.id },
        });
        Ok(self.changed(shipment, StatusCode::CREATED, body))
    }

    /// A parcel to begin scanning, if one was picked up.
    pub(super) fn next_picked_up(&mut self) -> Option<String> {
        self.picked_up.pop_front()
    }

    /// The next scan of a parcel on its way. Also says whether there will be another.
    pub(super) fn scan_next(
        &mut self,
        id: &str,
        moment: &Moment<'_>,
    ) -> Option<(Effect<Shipment>, bool)> {
        let shipment = self.shipments.get(id)?;
        let status = shipment.status().next()?;
        let shipment = shipment.clone();
        Some((self.scan(shipment, status, None, moment), status.next().is_some()))
    }

    /// A scan that somebody asked for.
    pub(super) fn scan_by_hand(&mut self, id: &str, json: &Value, moment: &Moment<'_>) -> Done {
        let status = json.get("status").cloned().unwrap_or_default();
        let status =
            serde_json::from_value::<Status>(status).map_err(|_| Refusal::parameter("status"))?;
        let detail = json.get("status_detail").and_then(Value::as_str).map(str::to_owned);
        let shipment = self.find(id)?.clone();
        if shipment.tracking_code.is_none() {
            return Err(Refusal::impossible("TRACKER.LABEL.MISSING", "There is no label to scan."));
        }
        if shipment.scans.len() >= SCANS_MAX {
            return Err(Refusal::impossible("TRACKER.SCANS.TOO_MANY", "Scanned often enough."));
        }
        Ok(self.scan(shipment, status, detail, moment))
    }

    fn scan(
        &mut self,
        mut shipment: Shipment,
        status: Status,
        detail: Option<String>,
        moment: &Moment<'_>,
    ) -> Effect<Shipment> {
        shipment.scans.push(Scan { status, detail, at: moment.now });
        let (id, tracker) = (moment.id("evt_"), shipment.tracker_json());
        let event = json!({
            "id": id,
            "object": "Event",
            "description": "tracker.updated",
            "mode": "test",
            "status": "pending",
            "created_at": tracker["updated_at"],
            "result": tracker,
        });
        let effect = self.changed(shipment, StatusCode::OK, tracker);
        Effect { notices: vec![(id, event)], ..effect }
    }

    /// `GET /v2/shipments/{id}`: by id or reference.
    pub(super) fn retrieve(&self, id: &str) -> Result<Value, Refusal> {
        self.find(id).map(Shipment::json)
    }

    /// `GET /v2/trackers/{code}`
    pub(super) fn tracker(&self, code: &str) -> Result<Value, Refusal> {
        let shipment = self.find(&code.replacen("trk_", "shp_", 1))?;
        match shipment.tracking_code {
            Some(_) => Ok(shipment.tracker_json()),
            None => Err(Refusal::missing()),
        }
    }

    /// `GET /sandbox/books`: oldest first.
    pub(super) fn summary(&self, query: &Form) -> Value {
        let limit = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(PAGE);
        let limit = limit.clamp(1, PAGE_MAX);
        let after = query.get("starting_after").map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.shipments.range::<str, _>((after, Bound::Unbounded));
        let page: Vec<Value> =
            rest.by_ref().take(limit).map(|(_, shipment)| entry(shipment)).collect();
        let count = |wanted: fn(&Shipment) -> bool| {
            self.shipments.values().filter(|shipment| wanted(shipment)).count()
        };
        json!({
            "created": self.shipments.len(),
            "labels_bought": count(|shipment| shipment.tracking_code.is_some()),
            "labels_refunded": count(|shipment| shipment.refunded),
            "picked_up": count(|shipment| shipment.pickup.is_some()),
            "delivered": count(|shipment| shipment.status() == Status::Delivered),
            "shipments": page,
            "has_more": rest.next().is_some(),
        })
    }
}

fn entry(shipment: &Shipment) -> Value {
    json!({
        "id": shipment.id,
        "reference": shipment.reference,
        "tracking_code": shipment.tracking_code,
        "refunded": shipment.refunded,
        "picked_up": shipment.pickup.is_some(),
        "status": shipment.status().as_str(),
    })
}
