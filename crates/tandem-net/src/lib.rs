//! Websocket client, TLS, backoff, worker threads and the pacing timer.
