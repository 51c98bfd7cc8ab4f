//! A shipment and its tracker, as they are kept and as they are shown.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How far a parcel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// No label yet.
    Unknown,
    PreTransit,
    InTransit,
    OutForDelivery,
    Delivered,
    /// It did not arrive: see the detail.
    Failure,
    ReturnToSender,
}

impl Status {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::PreTransit => "pre_transit",
            Self::InTransit => "in_transit",
            Self::OutForDelivery => "out_for_delivery",
            Self::Delivered => "delivered",
            Self::Failure => "failure",
            Self::ReturnToSender => "return_to_sender",
        }
    }

    /// What the next scan says.
    pub(super) const fn next(self) -> Option<Self> {
        match self {
            Self::Unknown | Self::PreTransit => Some(Self::InTransit),
            Self::InTransit => Some(Self::OutForDelivery),
            Self::OutForDelivery => Some(Self::Delivered),
            Self::Delivered | Self::Failure | Self::ReturnToSender => None,
        }
    }
}

/// The carrier saw the parcel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Scan {
    pub(super) status: Status,
    /// More about it, as `lost`.
    #[serde(default)]
    pub(super) detail: Option<String>,
    pub(super) at: DateTime<Utc>,
}

/// A parcel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Shipment {
    pub(super) id: String,
    /// The caller's name for it.
    pub(super) reference: Option<String>,
    pub(super) to_address: Value,
    pub(super) parcel: Value,
    pub(super) created: DateTime<Utc>,
    /// The label's number, once it was bought.
    pub(super) tracking_code: Option<String>,
    /// Whether the label was given back.
    pub(super) refunded: bool,
    /// The pickup that fetched it.
    pub(super) pickup: Option<String>,
    pub(super) scans: Vec<Scan>,
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

impl Shipment {
    /// Where it is: the furthest scan does not matter, the last one does.
    pub(super) fn status(&self) -> Status {
        match self.scans.last() {
            Some(scan) => scan.status,
            None if self.tracking_code.is_some() => Status::PreTransit,
            None => Status::Unknown,
        }
    }

    /// The one rate on offer.
    pub(super) fn rate(&self) -> Value {
        json!({
            "id": self.id.replacen("shp_", "rate_", 1),
            "object": "Rate",
            "carrier": "Sandbox",
            "service": "Ground",
            "rate": "5.00",
            "currency": "USD",
            "delivery_days": 2,
            "shipment_id": self.id,
        })
    }

    /// The shipment as `EasyPost` shows it.
    pub(super) fn json(&self) -> Value {
        let bought = self.tracking_code.as_ref();
        let label = bought.map(|code| {
            json!({
                "object": "PostageLabel",
                "label_url": format!("https://sandbox.invalid/labels/{code}.pdf"),
                "label_file_type": "application/pdf",
            })
        });
        json!({
            "id": self.id,
            "object": "Shipment",
            "mode": "test",
            "reference": self.reference,
            "created_at": time(self.created),
            "to_address": self.to_address,
            "parcel": self.parcel,
            "rates": [self.rate()],
            "selected_rate": bought.map(|_| self.rate()),
            "postage_label": label,
            "tracking_code": self.tracking_code,
            "tracker": bought.map(|_| self.tracker_json()),
            "refund_status": self.refunded.then_some("refunded"),
            "status": self.status().as_str(),
        })
    }

    /// The tracker as `EasyPost` shows it.
    pub(super) fn tracker_json(&self) -> Value {
        let details = self.scans.iter().map(|scan| {
            json!({
                "object": "TrackingDetail",
                "status": scan.status.as_str(),
                "status_detail": scan.detail,
                "message": scan.status.as_str(),
                "datetime": time(scan.at),
            })
        });
        json!({
            "id": self.id.replacen("shp_", "trk_", 1),
            "object": "Tracker",
            "mode": "test",
            "tracking_code": self.tracking_code,
            "status": self.status().as_str(),
            "status_detail": self.scans.last().and_then(|scan| scan.detail.as_ref()),
            "shipment_id": self.id,
            "carrier": "Sandbox",
            "reference": self.reference,
            "created_at": time(self.created),
            "updated_at": time(self.scans.last().map_or(self.created, |scan| scan.at)),
            "tracking_details": details.collect::<Vec<_>>(),
        })
    }
}
