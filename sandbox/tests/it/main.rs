//! The sandbox servers as a caller sees them: over HTTP, on loopback.

#[cfg(test)]
mod carrier;
#[cfg(test)]
mod provider;
#[cfg(test)]
mod world;
