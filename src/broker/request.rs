//! Requests over one inbox of our own with a bounded table. The client's own `request` keeps an entry for ever where
//! no reply comes, and does not fail on a disconnect; this one forgets at its timeout and fails at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::Message;
use futures_util::{Stream, StreamExt};
use tokio::sync::oneshot;

/// Requests that may be open at once.
const OPEN_MAX: usize = 32_768;

/// Open requests by the last token of their inbox.
pub(super) struct Table {
    prefix: String,
    next: AtomicU64,
    open: Mutex<HashMap<u64, oneshot::Sender<Message>>>,
}

/// One open request; dropping it forgets it.
pub(super) struct Open {
    table: Arc<Table>,
    token: u64,
    reply: oneshot::Receiver<Message>,
}

impl Table {
    /// A table whose inboxes are `<prefix>.<number>`.
    pub(super) fn new(prefix: String) -> Arc<Self> {
        Arc::new(Self { prefix, next: AtomicU64::new(1), open: Mutex::default() })
    }

    /// The subject to subscribe to.
    pub(super) fn wildcard(&self) -> String {
        format!("{}.*", self.prefix)
    }

    /// Opens a request; `None` where the table is full.
    pub(super) fn open(self: &Arc<Self>) -> Option<(String, Open)> {
        let token = self.next.fetch_add(1, Ordering::Relaxed);
        let (give, reply) = oneshot::channel();
        let mut open = self.lock();
        if open.len() >= OPEN_MAX {
            return None;
        }
        open.insert(token, give);
        drop(open);
        Some((format!("{}.{token}", self.prefix), Open { table: Arc::clone(self), token, reply }))
    }

    /// Fails every open request: the connection is gone and with it the replies.
    pub(super) fn fail_all(&self) {
        self.lock().clear();
    }

    /// Gives replies to those who wait, until the subscription ends.
    pub(super) async fn serve(self: Arc<Self>, mut inbox: impl Stream<Item = Message> + Unpin) {
        while let Some(message) = inbox.next().await {
            let token = message.subject.rsplit('.').next().and_then(|tail| tail.parse::<u64>().ok());
            let Some(token) = token else { continue };
            if let Some(give) = self.lock().remove(&token) {
                // The one who asked may have left between look-up and here: nothing to do then.
                drop(give.send(message));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Message>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// The reply; `None` where the connection went away first.
    pub(super) async fn reply(mut self) -> Option<Message> {
        (&mut self.reply).await.ok()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.table.lock().remove(&self.token);
    }
}
