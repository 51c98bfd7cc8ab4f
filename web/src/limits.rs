//! Every limit of the two APIs, each with its unit.

use std::time::Duration;

/// The largest request body, in bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// The largest body where a list is expected, as the lines of an order; in bytes.
pub const LARGE_BODY_BYTES_MAX: usize = 512 * 1024;

/// How much of a body that is too large is still read before it is refused, in bytes.
pub const DISCARDED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long a client may take to send its body.
pub const BODY_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long a client may take to send its headers, and a connection may idle.
pub const HEADER_WAIT_MAX: Duration = Duration::from_secs(30);

/// The largest head of a request, in bytes.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How many headers a request may have.
pub const HEADERS_MAX: usize = 100;

/// How long a client may take to read anything of its answer before it is cut off.
pub const WRITE_WAIT_MAX: Duration = Duration::from_secs(30);

/// How long a request may take in all.
pub const REQUEST_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long open requests have to end after the server is asked to stop.
pub const DRAIN_WAIT_MAX: Duration = Duration::from_secs(10);

/// Requests worked on at once; one more is turned away at once.
pub const IN_FLIGHT_MAX: usize = 2048;

/// Connections open at once; one more waits in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 4096;

/// How many rows a page has where nobody asks.
pub const PAGE_ROWS_DEFAULT: u32 = 50;

/// How many rows a page has at most.
pub const PAGE_ROWS_MAX: u32 = 200;

/// How long a read waits for a position at most.
pub const POSITION_WAIT_MAX: Duration = Duration::from_secs(2);

/// Longest request id that is taken from a caller, in characters.
pub const REQUEST_ID_LENGTH_MAX: usize = 128;

/// Longest idempotency key, in characters.
pub const IDEMPOTENCY_KEY_LENGTH_MAX: usize = 255;

/// Longest cursor that is looked at, in characters.
pub const CURSOR_LENGTH_MAX: usize = 1024;

/// What `Retry-After` says where nothing better is known, in seconds.
pub const RETRY_AFTER_S: u32 = 1;
