//! A real shop's purchases, played through the APIs.
