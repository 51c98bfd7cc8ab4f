//! What a customer, a warehouse and a bookkeeper do, through the public APIs.

use std::time::Duration;

use anyhow::{Context as _, bail};
use schemas::{Currency, CustomerId, Ids, Money};
use serde_json::{Value, json};

use crate::client::{Client, Reply};
use crate::endpoints::Endpoints;
use crate::operator::orders::sample_address;

/// How often to look whether something has come about: first and, doubling, at last.
const LOOKS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(320));
/// How many orders of a customer are asked for at once: few, so that there are pages.
const HISTORY_PAGE: u32 = 10;
/// How many payments of the provider's books are asked for at once.
const BOOKS_PAGE: u32 = 1000;
/// How long anything may take to come about.
const PATIENCE: Duration = Duration::from_mins(3);

/// How long the log must stand still to be at rest, and how often that is looked at.
const REST: Duration = Duration::from_millis(500);
const RESTS_MAX: u32 = 120;

/// A payment method that is taken, and one that is declined, as the usual tests have them.
pub(super) const GOOD_CARD: &str = "pm_card_visa";
pub(super) const DECLINED_CARD: &str = "pm_card_chargeDeclinedStolenCard";

/// A line of an order: what, how many, for how many cents each.
pub(super) type Line<'a> = (&'a str, u32, i64);

/// A caller of the platform. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Shop {
    client: Client,
    books: Client,
}

impl Shop {
    /// Speaks to a running platform, with the token that it issues to itself.
    pub(super) fn new(endpoints: &Endpoints) -> anyhow::Result<Self> {
        let Endpoints { command_url, query_url, payment_url, token, .. } = endpoints;
        Ok(Self {
            client: Client::new(command_url, query_url, token.as_deref())?,
            books: Client::new(payment_url, payment_url, None)?,
        })
    }

    /// The same for somebody else, who need not read what this one wrote.
    pub(super) fn apart(&self) -> Self {
        Self { client: self.client.apart(), books: self.books.clone() }
    }

    /// A customer who was never seen before.
    pub(super) fn new_customer() -> CustomerId {
        CustomerId::new(Ids::system().next())
    }

    /// Goods come in.
    pub(super) async fn receive(&self, sku: &str, quantity: u32) -> anyhow::Result<()> {
        let body = json!({ "quantity": quantity, "reference": "demo" });
        self.client.post(&format!("/v1/stock/{sku}/receive"), &body).await?.succeeded()?;
        Ok(())
    }

    /// The body that places an order.
    pub(super) fn order_body(
        customer: CustomerId,
        currency: Currency,
        lines: &[Line<'_>],
        card: &str,
    ) -> Value {
        let lines: Vec<_> = lines
            .iter()
            .map(|(sku, quantity, cents)| {
                json!({ "sku": sku, "title": sku, "quantity": quantity,
                        "unit_price": Money::new(*cents, currency) })
            })
            .collect();
        json!({ "customer": customer, "lines": lines, "payment_method": card,
                "shipping_address": sample_address() })
    }

    /// Places an order under a key of the caller's.
    pub(super) async fn place_as(&self, body: &Value, key: &str) -> anyhow::Result<Reply> {
        self.client.post_as("/v1/orders", body, key).await?.succeeded()
    }

    /// Places an order, and gives its id.
    pub(super) async fn place(&self, lines: &[Line<'_>], card: &str) -> anyhow::Result<String> {
        let body = Self::order_body(Self::new_customer(), Currency::EUR, lines, card);
        let reply = self.client.post("/v1/orders", &body).await?.succeeded()?;
        Ok(reply.text("/id")?.to_owned())
    }

    /// Asks for an order to be undone.
    pub(super) async fn cancel(&self, order: &str) -> anyhow::Result<Reply> {
        let path = format!("/v1/orders/{order}/cancel");
        self.client.post(&path, &json!({ "reason": "customer" })).await
    }

    /// The order's page.
    pub(super) async fn order(&self, order: &str) -> anyhow::Result<Value> {
        self.client.get(&format!("/v1/orders/{order}")).await
    }

    /// Everything that happened about an order.
    pub(super) async fn events(&self, order: &str) -> anyhow::Result<Vec<Value>> {
        self.client.list(&format!("/v1/orders/{order}/events")).await
    }

    /// Where the order's saga is.
    pub(super) async fn saga(&self, order: &Value) -> anyhow::Result<Value> {
        self.client.get(order["links"]["saga"].as_str().context("no link to the saga")?).await
    }

    /// Waits until the order's page has `value` in `field`.
    pub(super) async fn until(
        &self,
        order: &str,
        field: &str,
        value: &str,
    ) -> anyhow::Result<Value> {
        let path = format!("/v1/orders/{order}");
        self.wait_for(&path, &format!("{field} {value}"), |page| page[field] == value).await
    }

    /// Waits until the order's saga has ended, and every read model has heard of it.
    pub(super) async fn settled(&self, order: &str) -> anyhow::Result<Value> {
        let page = self.order(order).await?;
        let saga = page["links"]["saga"].as_str().context("no link to the saga")?.to_owned();
        self.wait_for(&saga, "its end", |saga| !saga["outcome"].is_null()).await?;
        self.caught_up().await?;
        self.order(order).await
    }

    /// The order's parcel, once `ready` says so.
    pub(super) async fn parcel(
        &self,
        order: &str,
        what: &str,
        ready: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let path = format!("/v1/orders/{order}/shipments");
        let found = |page: &Value| page["data"].get(0).is_some_and(&ready);
        Ok(self.wait_for(&path, what, found).await?["data"][0].clone())
    }

    /// The warehouse packs the order as soon as it may.
    pub(super) async fn pack(&self, order: &str) -> anyhow::Result<()> {
        let parcel = self.parcel(order, "a fulfilment order", |_| true).await?;
        self.warehouse(&parcel, "pack").await
    }

    /// The carrier takes the parcel, as soon as it is paid for and has its label.
    pub(super) async fn hand_over(&self, order: &str) -> anyhow::Result<()> {
        let ready = |parcel: &Value| parcel["released"] == true && parcel["label"] == "bought";
        let parcel = self.parcel(order, "to be released, with its label", ready).await?;
        self.warehouse(&parcel, "hand-over").await
    }

    /// Packs, hands over, and waits until the parcel is delivered and the order complete.
    pub(super) async fn fulfil(&self, order: &str) -> anyhow::Result<Value> {
        self.pack(order).await?;
        self.hand_over(order).await?;
        self.settled(order).await
    }

    async fn warehouse(&self, parcel: &Value, action: &str) -> anyhow::Result<()> {
        let id = parcel["fulfilment_id"].as_str().context("a parcel without an id")?;
        let path = format!("/v1/fulfilment-orders/{id}/{action}");
        self.client.post(&path, &json!({})).await?.succeeded()?;
        Ok(())
    }

    /// On hand, reserved and available units of a sku.
    pub(super) async fn stock(&self, sku: &str) -> anyhow::Result<(i64, i64, i64)> {
        let level = self.client.get(&format!("/v1/stock/{sku}")).await?;
        let number = |name: &str| level[name].as_i64().unwrap_or_default();
        Ok((number("on_hand"), number("reserved"), number("available")))
    }

    /// Every order, or every order of a customer, the oldest first.
    pub(super) async fn orders(&self, customer: Option<CustomerId>) -> anyhow::Result<Vec<Value>> {
        let filter = customer.map(|id| format!("&filter[customer]={id}")).unwrap_or_default();
        self.client.list(&format!("/v1/orders?sort=placed_at{filter}")).await
    }

    /// How the read models stand.
    pub(super) async fn projections(&self) -> anyhow::Result<Vec<Value>> {
        let page = self.client.get("/v1/projections").await?;
        Ok(page["data"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until every read model has seen the whole log.
    pub(super) async fn caught_up(&self) -> anyhow::Result<()> {
        let behind = |page: &Value| {
            page["data"]
                .as_array()
                .is_some_and(|rows| rows.iter().all(|row| row["lag_events"] == 0))
        };
        self.wait_for("/v1/projections", "no lag", behind).await?;
        Ok(())
    }

    /// The provider's own books about one order.
    pub(super) async fn books_of(&self, order: &str) -> anyhow::Result<Vec<Value>> {
        let books = self.books.get(&format!("/sandbox/books?order_id={order}")).await?;
        Ok(books["intents"].as_array().cloned().unwrap_or_default())
    }

    /// The provider's own sums: still held, taken, given back, in cents of `currency`.
    pub(super) async fn books(&self, currency: &str) -> anyhow::Result<(i64, i64, i64)> {
        let books = self.books.get("/sandbox/books?limit=1").await?;
        let sums = &books["currencies"][currency];
        let number = |name: &str| sums[name].as_i64().unwrap_or_default();
        Ok((number("authorised_open"), number("captured"), number("refunded")))
    }

    /// Everything in the provider's own books.
    pub(super) async fn all_books(&self) -> anyhow::Result<Vec<Value>> {
        let mut all: Vec<Value> = Vec::new();
        loop {
            let after = all.last().and_then(|last| last["id"].as_str());
            let after = after.map(|id| format!("&starting_after={id}")).unwrap_or_default();
            let mut books =
                self.books.get(&format!("/sandbox/books?limit={BOOKS_PAGE}{after}")).await?;
            if let Some(Value::Array(intents)) = books.get_mut("intents").map(Value::take) {
                all.extend(intents);
            }
            if books["has_more"] != true {
                return Ok(all);
            }
        }
    }

    /// A customer's orders, page by page.
    pub(super) async fn history(&self, customer: CustomerId) -> anyhow::Result<Vec<Value>> {
        let path = format!("/v1/orders?sort=placed_at&filter[customer]={customer}");
        self.client.pages(&path, HISTORY_PAGE).await
    }

    /// The stock of every sku.
    pub(super) async fn all_stock(&self) -> anyhow::Result<Vec<Value>> {
        self.client.list("/v1/stock").await
    }

    /// How many events the read model that is furthest behind has to go.
    pub(super) async fn lag(&self) -> anyhow::Result<i64> {
        let rows = self.projections().await?;
        Ok(rows.iter().filter_map(|row| row["lag_events"].as_i64()).max().unwrap_or_default())
    }

    /// Waits until the log has come to rest and every read model has seen all of it.
    pub(super) async fn at_rest(&self) -> anyhow::Result<()> {
        let mut head = None;
        for _ in 0..RESTS_MAX {
            self.caught_up().await?;
            let now = self.projections().await?.first().map(|row| row["head"].clone());
            if now == head {
                return Ok(());
            }
            head = now;
            tokio::time::sleep(REST).await;
        }
        bail!("the log does not come to rest")
    }

    async fn wait_for(
        &self,
        path: &str,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let (mut last, mut wait) = (None, LOOKS.0);
        let looked = async {
            loop {
                let found = self.client.get_if_found(path).await?;
                if let Some(page) = found {
                    if holds(&page) {
                        return Ok::<_, anyhow::Error>(page);
                    }
                    last = Some(page);
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LOOKS.1);
            }
        };
        match tokio::time::timeout(PATIENCE, looked).await {
            Ok(found) => found,
            Err(_) => bail!(
                "{path}: waited {} s in vain for {what}; last seen: {}",
                PATIENCE.as_secs(),
                last.map_or_else(|| "nothing".to_owned(), |page| page.to_string())
            ),
        }
    }
}
