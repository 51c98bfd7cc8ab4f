//! Shipping: a fulfilment order, which a warehouse packs, and its parcel, which a carrier takes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::inventory::Units;
use crate::{
    Address, Category, FulfilmentId, OrderId, Personal, ShipmentId, StreamId, Text, Timestamp,
};

/// What a carrier saw. The order of the variants is the order in which a parcel goes through
/// them: a scan that ranks lower than an earlier one is kept and changes nothing.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Scan {
    /// The carrier knows of the parcel.
    PreTransit,
    /// On its way.
    InTransit,
    /// On the van.
    OutForDelivery,
    /// With the customer.
    Delivered,
}

/// What went wrong with a parcel on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// Something that the carrier may mend.
    Exception,
    /// The carrier does not find it any more, or it is broken.
    Lost,
    /// It comes back to us.
    Returned,
}

/// What can be asked of a fulfilment order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Command {
    /// The warehouse is to pack this.
    Create {
        /// For which order.
        order: OrderId,
        /// What.
        units: Vec<Units>,
        /// Where it goes.
        address: Personal<Address>,
    },
    /// Some of it is not on the shelf.
    ReportShort {
        /// What is missing, every sku once.
        short: Vec<Units>,
    },
    /// Do not pack it, or hand it over, for now. Of one not created yet: it begins on hold.
    Hold {
        /// For which order.
        order: OrderId,
    },
    /// Go on with it.
    Resume,
    /// It is packed.
    Pack,
    /// It is paid for: it may go.
    ReleaseForHandover,
    /// The carrier took it.
    HandOver,
    /// The label was bought.
    RecordLabel {
        /// The carrier's id of the shipment.
        carrier_ref: Text,
        /// The number to follow it with.
        tracking_code: Text,
    },
    /// The carrier will not take it.
    RecordLabelRejected {
        /// The carrier's code.
        code: Text,
    },
    /// The label was given back.
    RecordLabelVoided,
    /// The carrier saw the parcel.
    RecordScan {
        /// The carrier's id of this notice.
        carrier_event: Text,
        /// What it saw.
        scan: Scan,
        /// When.
        at: Timestamp,
    },
    /// The carrier says that something went wrong.
    RecordTrouble {
        /// The carrier's id of this notice.
        carrier_event: Text,
        /// What.
        trouble: Trouble,
        /// When.
        at: Timestamp,
    },
    /// Do not send it. Of one not created yet: never create it.
    Cancel {
        /// For which order.
        order: OrderId,
    },
}

/// Everything that can happen to a fulfilment order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Event {
    /// The warehouse is to pack this.
    #[serde(rename = "shipping.created.v1")]
    Created {
        /// For which order.
        order: OrderId,
        /// What.
        units: Vec<Units>,
        /// Where it goes.
        address: Personal<Address>,
    },
    /// Some of it was not on the shelf. It will not be sent.
    #[serde(rename = "shipping.short_picked.v1")]
    ShortPicked {
        /// For which order.
        order: OrderId,
        /// What is missing.
        short: Vec<Units>,
        /// What is left to be sent.
        left: Vec<Units>,
    },
    /// It has to wait.
    #[serde(rename = "shipping.held.v1")]
    Held {
        /// For which order.
        order: OrderId,
    },
    /// It goes on.
    #[serde(rename = "shipping.resumed.v1")]
    Resumed {
        /// For which order.
        order: OrderId,
    },
    /// It is packed, and a label is to be bought.
    #[serde(rename = "shipping.packed.v1")]
    Packed {
        /// For which order.
        order: OrderId,
        /// The parcel.
        shipment: ShipmentId,
        /// Where it goes.
        address: Personal<Address>,
    },
    /// It may go.
    #[serde(rename = "shipping.released.v1")]
    Released {
        /// For which order.
        order: OrderId,
    },
    /// The label was bought.
    #[serde(rename = "shipping.label_bought.v1")]
    LabelBought {
        /// For which order.
        order: OrderId,
        /// The carrier's id of the shipment.
        carrier_ref: Text,
        /// The number to follow it with.
        tracking_code: Text,
    },
    /// The carrier will not take it.
    #[serde(rename = "shipping.label_rejected.v1")]
    LabelRejected {
        /// For which order.
        order: OrderId,
        /// The carrier's code.
        code: Text,
    },
    /// The carrier took it: from here on nothing is undone.
    #[serde(rename = "shipping.handed_over.v1")]
    HandedOver {
        /// For which order.
        order: OrderId,
        /// The carrier's id of the shipment.
        carrier_ref: Text,
        /// The number to follow it with.
        tracking_code: Text,
        /// Whether nobody told us, and a scan gave it away.
        inferred: bool,
    },
    /// The carrier saw the parcel.
    #[serde(rename = "shipping.scanned.v1")]
    Scanned {
        /// For which order.
        order: OrderId,
        /// The carrier's id of this notice.
        carrier_event: Text,
        /// What it saw.
        scan: Scan,
        /// When.
        at: Timestamp,
    },
    /// Something went wrong on the way.
    #[serde(rename = "shipping.trouble_reported.v1")]
    TroubleReported {
        /// For which order.
        order: OrderId,
        /// The carrier's id of this notice.
        carrier_event: Text,
        /// What.
        trouble: Trouble,
        /// When.
        at: Timestamp,
    },
    /// It arrived.
    #[serde(rename = "shipping.delivered.v1")]
    Delivered {
        /// For which order.
        order: OrderId,
        /// When.
        at: Timestamp,
    },
    /// It will not be sent.
    #[serde(rename = "shipping.cancelled.v1")]
    Cancelled {
        /// For which order.
        order: OrderId,
    },
    /// It was sent already.
    #[serde(rename = "shipping.cancel_rejected.v1")]
    CancelRejected {
        /// For which order.
        order: OrderId,
    },
    /// A label is no longer needed: the carrier is to take it back.
    #[serde(rename = "shipping.label_void_requested.v1")]
    LabelVoidRequested {
        /// For which order.
        order: OrderId,
        /// The carrier's id of the shipment.
        carrier_ref: Text,
    },
    /// The label was given back.
    #[serde(rename = "shipping.label_voided.v1")]
    LabelVoided {
        /// For which order.
        order: OrderId,
    },
}

impl Event {
    /// The order that is fulfilled.
    #[must_use]
    pub const fn order(&self) -> OrderId {
        match self {
            Self::Created { order, .. }
            | Self::ShortPicked { order, .. }
            | Self::Held { order }
            | Self::Resumed { order }
            | Self::Packed { order, .. }
            | Self::Released { order }
            | Self::LabelBought { order, .. }
            | Self::LabelRejected { order, .. }
            | Self::HandedOver { order, .. }
            | Self::Scanned { order, .. }
            | Self::TroubleReported { order, .. }
            | Self::Delivered { order, .. }
            | Self::Cancelled { order }
            | Self::CancelRejected { order }
            | Self::LabelVoidRequested { order, .. }
            | Self::LabelVoided { order } => *order,
        }
    }
}

impl crate::Event for Event {
    const CATEGORY: Category = Category::Shipping;
}

impl FulfilmentId {
    /// The stream of the fulfilment order.
    #[must_use]
    pub const fn stream(self) -> StreamId {
        StreamId::new(Category::Shipping, self.uuid())
    }
}
