//! Connections to other executors' data planes, kept for reuse.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ballista_core::client::BallistaClient;
use ballista_core::client_pool::{BallistaClientPool, PooledClient};
use ballista_core::error::Result;
use ballista_core::extension::BallistaConfigGrpcEndpoint;
use ballista_core::utils::GrpcClientConfig;

use crate::peer::Peers;

/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Unused connections kept for one peer; a task fetches at most this many partitions at a time.
const MAX_IDLE_PER_PEER: usize = 64;

type Key = (String, u16, GrpcClientConfig);
type Idle = HashMap<Key, Vec<(BallistaClient, Instant)>>;

/// A bounded pool of connections by peer.
///
/// Ballista's own pool is private to its executor process; without one every shuffle fetch opens a
/// connection of its own.
#[derive(Clone, Default)]
pub struct ConnectionPool {
    idle: Arc<Mutex<Idle>>,
    peers: Peers,
}

impl std::fmt::Debug for ConnectionPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConnectionPool")
    }
}

impl ConnectionPool {
    /// Connections to these peers.
    pub fn new(peers: Peers) -> Self {
        Self { idle: Arc::default(), peers }
    }

    fn take(&self, key: &Key) -> Option<BallistaClient> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let clients = idle.get_mut(key)?;
        clients.retain(|(_, since)| since.elapsed() < IDLE_TIMEOUT);
        clients.pop().map(|(client, _)| client)
    }

    fn put(&self, key: Key, client: BallistaClient) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let clients = idle.entry(key).or_default();
        if clients.len() < MAX_IDLE_PER_PEER {
            clients.push((client, Instant::now()));
        }
    }
}

#[async_trait]
impl BallistaClientPool for ConnectionPool {
    async fn acquire(
        &self,
        host: &str,
        port: u16,
        config: &GrpcClientConfig,
        _: Option<Arc<BallistaConfigGrpcEndpoint>>,
    ) -> Result<PooledClient> {
        let key = (host.to_owned(), port, config.clone());
        let client = match self.take(&key) {
            Some(client) => client,
            None => {
                BallistaClient::try_new(
                    host,
                    port,
                    config.max_message_size,
                    self.peers.are_proven(),
                    self.peers.customize_fetches(),
                    config.io_retries_times,
                    config.io_retry_wait_time_ms,
                    config.initial_connection_window_size,
                    config.initial_stream_window_size,
                )
                .await?
            }
        };
        let pool = self.clone();
        Ok(PooledClient::new(client, Box::new(move |client| pool.put(key, client))))
    }

    async fn evict_idle(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, clients| {
            clients.retain(|(_, since)| since.elapsed() < IDLE_TIMEOUT);
            !clients.is_empty()
        });
    }
}
