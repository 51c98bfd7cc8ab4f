//! Everything that happened about an order, in any context, in the order of the log.

use schemas::{Category, Encoded, Event as _, Fact, OrderId, Position, Recorded, Timestamp};
use serde_json::value::RawValue;
use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgPool, Postgres, QueryBuilder, Row as _};
use uuid::Uuid;

use crate::checkpoint;
use crate::projection::{Keys, Projection};
use crate::row::{AsText, Row as _};

crate::table! {
    /// One event about an order.
    pub struct Row {
        /// Made of the position.
        entry_id: Uuid,
        /// The order.
        order_id: Uuid,
        /// Its place in the log.
        position: i64,
        /// The context that it happened in.
        category: AsText<Category>,
        /// The thing that it happened to.
        stream_id: Uuid,
        /// Its place in that thing's stream.
        stream_version: i64,
        /// What happened, as `order.placed.v1`.
        event_type: String,
        /// The event's id.
        event_id: Uuid,
        /// The command that it answers.
        command_id: Uuid,
        /// What led to that command.
        causation_id: Uuid,
        /// The conversation that it belongs to; none in rows of the version before.
        correlation_id: Option<Uuid>,
        /// W3C trace context of the request that it came from.
        traceparent: Option<String>,
        /// When it happened.
        occurred_at: Timestamp,
        /// When it was written to the log.
        recorded_at: Timestamp,
        /// Who asked.
        actor: String,
        /// The event's data.
        data: Data,
    }
}

/// The data of an event: JSON that is passed on as it is. A column of type `json`.
#[derive(Debug, Clone, serde::Serialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Data(#[schemars(with = "serde_json::Value")] pub Box<RawValue>);

impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl sqlx::Type<Postgres> for Data {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(114))
    }

    fn compatible(info: &PgTypeInfo) -> bool {
        <Json<()> as sqlx::Type<Postgres>>::compatible(info)
    }
}

impl PgHasArrayType for Data {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(199))
    }
}

impl Encode<'_, Postgres> for Data {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(self.0.get().as_bytes());
        Ok(IsNull::No)
    }
}

impl<'r> sqlx::Decode<'r, Postgres> for Data {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(Self(RawValue::from_string(value.as_str()?.to_owned())?))
    }
}

/// The history of every order.
///
/// It holds the events of the order, its payment, its reservation and its parcels, and of its
/// saga what it began, asked for, turned round on and ended with. What a saga heard is not
/// repeated: it is there already, as the event that was heard. Nor is the stock of single skus.
#[derive(Debug)]
pub struct OrderTimeline;

impl Projection for OrderTimeline {
    const NAME: &'static str = "order_timeline";
    const VERSION: u16 = 3;
    const CATEGORIES: &'static [Category] = &Category::ALL;
    const WRITES_ONCE: bool = true;
    type Row = Row;

    fn keys(event: &Recorded) -> Keys {
        match order(event) {
            Some(_) => Keys::One(entry_id(event.position)),
            None => Keys::None,
        }
    }

    fn evolve(_: Option<Row>, key: Uuid, event: &Recorded) -> Option<Row> {
        let order = order(event)?;
        let Encoded { event_type, payload } = match &event.fact {
            Fact::Order(fact) => fact.encode(),
            Fact::Payment(fact) => fact.encode(),
            Fact::Inventory(fact) => fact.encode(),
            Fact::Shipping(fact) => fact.encode(),
            Fact::Saga(fact) => fact.encode(),
            Fact::Unknown { .. } => return None,
        }
        .ok()?;
        Some(Row {
            entry_id: key,
            order_id: order.uuid(),
            position: event.position,
            category: AsText(event.stream.category),
            stream_id: event.stream.id,
            stream_version: event.version,
            event_type,
            event_id: event.event_id.uuid(),
            command_id: event.command_id.uuid(),
            causation_id: event.causation_id,
            correlation_id: Some(event.correlation_id),
            traceparent: event.traceparent.clone(),
            occurred_at: event.occurred_at,
            recorded_at: event.recorded_at,
            actor: event.actor.clone(),
            data: Data(RawValue::from_string(payload).ok()?),
        })
    }
}

/// A key that follows from the position, so that new rows go to one end of the index.
fn entry_id(position: Position) -> Uuid {
    Uuid::from_u64_pair(0, position.unsigned_abs())
}

/// The order whose timeline tells of `event`, if any does.
fn order(event: &Recorded) -> Option<OrderId> {
    use schemas::saga::Event as Saga;
    match &event.fact {
        Fact::Order(_) => Some(OrderId::new(event.stream.id)),
        Fact::Payment(fact) => Some(fact.order()),
        Fact::Inventory(fact) => fact.order(),
        Fact::Shipping(fact) => Some(fact.order()),
        Fact::Saga(
            Saga::Started { .. }
            | Saga::CommandIssued { .. }
            | Saga::CompensationStarted { .. }
            | Saga::Parked { .. }
            | Saga::Resumed { .. }
            | Saga::Finished { .. },
        ) => Some(OrderId::new(event.correlation_id)),
        Fact::Saga(_) | Fact::Unknown { .. } => None,
    }
}

/// At most `limit` events about an order after the position `after`, in order.
///
/// # Errors
/// Where the database is away.
pub async fn list(
    pool: &PgPool,
    order: OrderId,
    after: Position,
    limit: i64,
) -> Result<Vec<Row>, sqlx::Error> {
    let rows = list_query(order, after, limit).build().fetch_all(pool).await?;
    rows.iter().map(Row::read).collect()
}

/// What [`list`] asks, for whoever looks at how it is planned.
#[must_use]
pub fn list_query(order: OrderId, after: Position, limit: i64) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new("select ");
    query.push(Row::COLUMNS.join(", ")).push(" from read_models.order_timeline where order_id = ");
    query.push_bind(order.uuid()).push(" and position > ").push_bind(after);
    query.push(" order by position limit ").push_bind(limit);
    query
}

/// What the timeline tells after a position.
#[derive(Debug)]
pub struct News {
    /// Events, in order.
    pub rows: Vec<Row>,
    /// How much of the log the timeline had seen. Nothing up to here is missing, unless the rows
    /// are as many as were asked for.
    pub seen: Position,
}

/// At most `limit` events after the position `after` and up to what the timeline has seen, in
/// order: about one order, or about all.
///
/// # Errors
/// Where the database is away.
pub async fn news(
    pool: &PgPool,
    order: Option<OrderId>,
    after: Position,
    limit: i64,
) -> Result<News, sqlx::Error> {
    let columns = Row::COLUMNS.join(", ");
    // Rows and positions in one statement: a rebuild may put another table in the place of this
    // one, and a rollback an older one, both together with the position.
    let place = match order {
        Some(_) => {
            "order_id = $4 and position > $2 and position <= seen.position order by position"
        }
        None => {
            "$4::uuid is null and entry_id > lpad(to_hex($2), 32, '0')::uuid \
             and entry_id <= lpad(to_hex(seen.position), 32, '0')::uuid order by entry_id"
        }
    };
    let query = format!(
        "select t.*, seen.position as seen \
         from (select coalesce(min(position), 0) as position from checkpoints \
               where consumer = $1) as seen \
         left join lateral (select {columns} from read_models.order_timeline \
                            where {place} limit $3) as t on true \
         order by t.position"
    );
    let query = sqlx::query(AssertSqlSafe(query))
        .bind(checkpoint(OrderTimeline::NAME))
        .bind(after)
        .bind(limit)
        .bind(order.map(OrderId::uuid));
    let mut news = News { rows: Vec::new(), seen: 0 };
    for row in query.fetch_all(pool).await? {
        news.seen = row.try_get("seen")?;
        // Without any event there is still a row, which tells the position.
        if row.try_get::<Option<Uuid>, _>(0)?.is_some() {
            news.rows.push(Row::read(&row)?);
        }
    }
    Ok(news)
}

#[cfg(test)]
mod tests {
    use schemas::{inventory, order, payment, saga};

    use super::*;
    use crate::given::{euro, given, order_id, placed, record, saga_started};

    #[test]
    fn every_context_tells_of_the_order() {
        let order = order_id();
        let reservation = order.reservation();
        let rows = given::<OrderTimeline>([
            placed(300),
            saga_started(),
            Fact::Inventory(inventory::Event::ReservationReleased {
                order,
                reservation,
                units: vec![],
            }),
            Fact::Payment(payment::Event::Captured { order, op: 1, amount: euro(300) }),
            Fact::Order(order::Event::Completed),
        ])
        .rows();
        let told: Vec<_> = rows.iter().map(|row| row.event_type.as_str()).collect();
        let expected = [
            "order.placed.v1",
            "saga.started.v1",
            "inventory.reservation_released.v1",
            "payment.captured.v1",
            "order.completed.v1",
        ];
        assert_eq!(told, expected);
        assert!(rows.iter().all(|row| row.order_id == order.uuid()));
        assert_eq!(rows[4].data.0.get(), "null");
        assert_eq!(rows[0].position, 1);
    }

    #[test]
    fn an_entry_says_what_it_came_from() {
        let mut event = record([placed(300)]).remove(0);
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        event.traceparent = Some(trace.to_owned());
        let key = entry_id(event.position);
        let row = OrderTimeline::evolve(None, key, &event).unwrap();
        assert_eq!(row.traceparent.as_deref(), Some(trace));
        assert_eq!(row.correlation_id, Some(event.correlation_id));
        assert_eq!(
            (row.command_id, row.causation_id),
            (event.command_id.uuid(), event.causation_id)
        );
        assert_eq!(row.actor, "customer");
    }

    #[test]
    fn what_a_saga_heard_and_single_skus_are_left_out() {
        let heard = saga::Event::InputIgnored {
            source: Uuid::nil(),
            input: serde_json::Value::Null,
            state: "paying".to_owned(),
        };
        let stock = inventory::Event::StockReceived {
            sku: "mug".parse().unwrap(),
            quantity: schemas::Quantity::new(1).unwrap(),
            reference: None,
        };
        let facts = [Fact::Saga(heard), Fact::Inventory(stock)];
        assert!(given::<OrderTimeline>(facts).rows().is_empty());
    }
}
