//! Serves a sandbox server by itself, to be tried with other people's clients:
//! `cargo run -p sandbox --example serve -- provider 127.0.0.1:12111 [webhook url]`.

use std::io;

use sandbox::Config;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> io::Result<()> {
    let mut words = std::env::args().skip(1);
    let (kind, address) = (words.next(), words.next());
    let config =
        Config { webhook_url: words.next(), ..Config::new("sk_test_sandbox", "whsec_sandbox") };
    let server = match kind.as_deref() {
        Some("provider") => sandbox::provider(config),
        Some("carrier") => sandbox::carrier(config),
        _ => return Err(io::Error::other("say `provider` or `carrier`")),
    };
    let address = address.unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let drain = CancellationToken::new();
    let _stop = drain.clone().drop_guard();
    let serving = server.serve(TcpListener::bind(address).await?, drain.clone());
    tokio::select! {
        ended = serving => ended,
        stopped = tokio::signal::ctrl_c() => stopped,
    }
}
