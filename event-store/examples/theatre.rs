//! A theatre sells two seats: events and a rule of its own, on Postgres alone.
#![expect(clippy::print_stdout, reason = "it is for people to look at")]
use event_store::{Feed, Meta, Options, Store};
use schemas::{Category, Clock, CommandId, Decider, Event, Ids, Refusal, StreamId};
use tokio_util::sync::CancellationToken;

#[derive(Debug, serde::Serialize, serde::Deserialize)]
enum Sale {
    #[serde(rename = "theatre.sold.v1")]
    Sold { guest: String },
}
impl Event for Sale {
    const CATEGORY: Category = Category::new("theatre");
}

#[derive(Debug, thiserror::Error)]
#[error("sold out")]
struct SoldOut;
impl Refusal for SoldOut {
    fn code(&self) -> &'static str {
        "sold_out"
    }
}
#[derive(Clone, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
struct Show(u8);
impl Decider for Show {
    const NAME: &'static str = "show";
    type Command = String;
    type Event = Sale;
    type Refusal = SoldOut;
    fn decide(&self, guest: &String) -> Result<Vec<Sale>, SoldOut> {
        if self.0 < 2 { Ok(vec![Sale::Sold { guest: guest.clone() }]) } else { Err(SoldOut) }
    }
    fn evolve(self, _: &Sale) -> Self {
        Self(self.0 + 1)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (database_url, log) = (std::env::var("DATABASE_URL")?, "theatre".to_owned());
    Store::migrate(&database_url).await?;
    let options = Options { database_url, log, connections_max: 4 };
    let (store, writer) = Store::open(&options, None).await?;
    let ((feed, handle), clock) = (Feed::new(store.clone(), None), Clock::system());
    let (mut tail, drain) = (handle.tail(store.head().await?), CancellationToken::new());
    let evening = async {
        let show = StreamId::new(Sale::CATEGORY, Ids::system().next());
        for guest in ["Ada", "Grace", "Edsger"].map(str::to_owned) {
            let meta = Meta::new(CommandId::derive(show.id, &guest), [0; 32], clock.now(), "desk");
            match store.execute::<Show>(&[show], &guest, &meta).await {
                Ok(_) => println!("{:?}", tail.next(1).await[0].decode::<Sale>().transpose()?),
                Err(error) => println!("{error}"),
            }
        }
        drain.cancel();
        Ok(())
    };
    tokio::join!(evening, writer.run(drain.clone()), feed.run(drain.clone())).0
}
