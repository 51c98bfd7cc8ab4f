//! Loading streams, from what is remembered of them.

use std::sync::Arc;

use schemas::{CommandId, Decider, Position, Recorded, StreamId, Version};
use sqlx::FromRow;

use crate::batch::Answered;
use crate::cache::Known;
use crate::{Error, Refused, Store};

/// A stream, folded.
#[derive(Debug, Clone)]
pub struct Loaded<S> {
    /// What came of its events.
    pub state: S,
    /// How many there are.
    pub version: Version,
    /// How many of them were read for it: none that a snapshot or this process remembers.
    pub read: usize,
}

impl Store {
    /// A stream, folded.
    ///
    /// # Errors
    /// [`Error::Database`], or [`Error::Unreadable`].
    pub async fn load<D: Decider>(&self, stream: StreamId) -> Result<Loaded<D>, Error> {
        let (mut known, read) = self.fold_counted::<D>(&[stream]).await?;
        let Known { state, version, .. } = known.remove(0);
        Ok(Loaded { state: Arc::unwrap_or_clone(state), version, read })
    }

    /// The position of the last event in the log.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn head(&self) -> Result<Position, Error> {
        self.history().head().await
    }

    /// At most `limit` events after `after`, in order.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn read(&self, after: Position, limit: i64) -> Result<Vec<Arc<Recorded>>, Error> {
        self.history().read(after, limit).await
    }

    /// At most `limit` events of a stream after version `after`, in order.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn read_stream(
        &self,
        stream: StreamId,
        after: Version,
        limit: i64,
    ) -> Result<Vec<Arc<Recorded>>, Error> {
        self.history().read_stream(stream, after, limit).await
    }

    /// Streams as they stand in the log, folded on top of what is remembered of them.
    pub(crate) async fn fold<D: Decider>(
        &self,
        streams: &[StreamId],
    ) -> Result<Vec<Known<D>>, Error> {
        Ok(self.fold_counted(streams).await?.0)
    }

    /// The same, and how many events were read.
    async fn fold_counted<D: Decider>(
        &self,
        streams: &[StreamId],
    ) -> Result<(Vec<Known<D>>, usize), Error> {
        let remembered = |stream: &StreamId| self.cache().written(*stream).unwrap_or_default();
        let remembered: Vec<Known<D>> = streams.iter().map(remembered).collect();
        let folds = self.history().fold(streams, remembered, Version::MAX).await?;
        for (stream, fold) in streams.iter().zip(&folds) {
            if fold.calls_for_a_snapshot() {
                self.snapshots().offer(*stream, &fold.known, fold.position);
            }
            if fold.known.version > 0 {
                self.cache().put(*stream, fold.known.clone());
            }
        }
        let read = folds.iter().map(|fold| fold.read).sum();
        Ok((folds.into_iter().map(|fold| fold.known).collect(), read))
    }

    /// What a command was answered before.
    pub(crate) async fn answered(&self, command: CommandId) -> Result<Option<Answered>, Error> {
        #[derive(FromRow)]
        struct Row {
            request_hash: Vec<u8>,
            version: Version,
            position: Position,
            refusal_code: Option<String>,
            refusal_detail: Option<String>,
        }
        let row: Option<Row> = sqlx::query_as(
            "select request_hash, version, position, refusal_code, refusal_detail \
             from commands where command_id = $1",
        )
        .bind(command.uuid())
        .fetch_optional(self.pool())
        .await?;
        Ok(row.map(|row| Answered {
            request_hash: row.request_hash,
            version: row.version,
            position: row.position,
            refused: row
                .refusal_code
                .map(|code| Refused { code, detail: row.refusal_detail.unwrap_or_default() }),
        }))
    }
}
