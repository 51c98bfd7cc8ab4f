//! Shipping: hears what is asked of the carrier, asks it, and records what it said.

mod answer;
mod carrier;

use event_store::{Fault, Reactor, Store, Vault};
use schemas::shipping::Event;
use schemas::{Category, Clock, Fact, FulfilmentId, Recorded, actor};
use uuid::Uuid;

use crate::record::{Recorder, poison};
use crate::{Config, ConfigError};
use answer::Next;
use carrier::Api;

/// The adapter to the carrier.
#[derive(Debug)]
pub struct Carrier {
    recorder: Recorder,
    vault: Vault,
    api: Api,
}

impl Carrier {
    /// Sets the adapter up.
    ///
    /// # Errors
    /// Where `config` is no good.
    pub fn new(
        store: Store,
        vault: Vault,
        clock: Clock,
        config: &Config,
    ) -> Result<Self, ConfigError> {
        let recorder = Recorder { store, clock, actor: actor::CARRIER_ADAPTER };
        Ok(Self { recorder, vault, api: Api::new(config)? })
    }

    async fn ask(&self, fulfilment: FulfilmentId, fact: &Event) -> Next {
        match fact {
            Event::Packed { address, .. } => match self.vault.open(address).await {
                Ok(address) => {
                    answer::label(self.api.buy_label(fulfilment, address.as_ref()).await)
                }
                Err(error) => answer::unopened(&error),
            },
            Event::HandedOver { carrier_ref, inferred: false, .. } => {
                answer::picked_up(self.api.pick_up(fulfilment, carrier_ref).await)
            }
            Event::LabelVoidRequested { carrier_ref, .. } => {
                answer::label_voided(self.api.refund_label(fulfilment, carrier_ref).await)
            }
            _ => Next::Nothing,
        }
    }
}

impl Reactor for Carrier {
    fn name(&self) -> &'static str {
        "adapter/carrier"
    }

    /// Everything about one fulfilment order happens in order.
    fn key(&self, event: &Recorded) -> Option<Uuid> {
        if event.stream.category != Category::Shipping {
            return None;
        }
        match &event.fact {
            // Inferred from a scan: the carrier has it, nobody needs to tell it.
            Fact::Shipping(
                Event::Packed { .. }
                | Event::HandedOver { inferred: false, .. }
                | Event::LabelVoidRequested { .. },
            )
            | Fact::Unknown { .. } => Some(event.stream.id),
            _ => None,
        }
    }

    async fn react(&self, event: &Recorded) -> Result<(), Fault> {
        let Fact::Shipping(fact) = &event.fact else {
            return Err(poison(event, "this release cannot read it"));
        };
        let next = self.ask(FulfilmentId::new(event.stream.id), fact).await;
        let concluded =
            self.recorder.conclude::<aggregates::shipping::Shipping>(event, fact.order(), next);
        concluded.await
    }
}
