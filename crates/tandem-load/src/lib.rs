//! Load and latency against a running daemon.
