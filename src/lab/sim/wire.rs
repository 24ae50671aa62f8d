//! The model's network: each client has one connection that keeps the order of what is sent, and that is slow, loses
//! what it carries, or is cut.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::consumer::Out;
use super::net::Net;
use super::server::Sent;
use super::world::{Life, PULL, locked};
use crate::broker::{ClientMessage, Incoming, LinkState, Listener, Outgoing, Teller, Wire, WireError};
use crate::worker::StatusHandle;

/// On its way, until when, over which connection.
struct Flying<T> {
    at: Instant,
    epoch: u64,
    what: T,
}

/// One direction of a connection.
struct Lane<T> {
    last: Mutex<Instant>,
    queue: mpsc::UnboundedSender<Flying<T>>,
}

impl<T> Lane<T> {
    fn new() -> (Self, mpsc::UnboundedReceiver<Flying<T>>) {
        let (queue, flying) = mpsc::unbounded_channel();
        (Self { last: Mutex::new(Instant::now()), queue }, flying)
    }

    /// Arrives after `latency`, and never before what was sent before it.
    fn put(&self, what: T, epoch: u64, latency: Duration) {
        let mut last = locked(&self.last);
        let now = Instant::now();
        let at = now.checked_add(latency).unwrap_or(now).max(*last);
        *last = at;
        // The pump ends with the simulation only.
        self.queue.send(Flying { at, epoch, what }).ok();
    }
}

/// A client's end of its connection.
pub(super) struct Socket {
    pub(super) net: Arc<Net>,
    pub(super) life: Arc<Life>,
    pub(super) client: u64,
    pub(super) link: Teller<LinkState>,
    prefix: String,
    next: AtomicU64,
    replies: Mutex<BTreeMap<String, oneshot::Sender<Incoming>>>,
    inboxes: Mutex<BTreeMap<String, mpsc::UnboundedSender<ClientMessage>>>,
    up: Lane<Sent>,
    down: Lane<Out>,
    /// What the worker says of itself, for the checks of its pulls.
    pub(super) status: OnceLock<StatusHandle>,
    opened: Instant,
}

impl Socket {
    pub(super) fn open(net: Arc<Net>, life: Arc<Life>, client: u64) -> Arc<Self> {
        let (up, rising) = Lane::new();
        let (down, falling) = Lane::new();
        let socket = Arc::new(Self {
            net,
            life,
            client,
            link: Teller::new(LinkState { connected: true, epoch: 1, lame_duck: false, denied: None }),
            prefix: format!("_INBOX.{client}"),
            next: AtomicU64::new(0),
            replies: Mutex::default(),
            inboxes: Mutex::default(),
            up,
            down,
            status: OnceLock::new(),
            opened: Instant::now(),
        });
        tokio::spawn(Arc::clone(&socket).rise(rising));
        tokio::spawn(Arc::clone(&socket).fall(falling));
        socket
    }

    async fn rise(self: Arc<Self>, mut flying: mpsc::UnboundedReceiver<Flying<Sent>>) {
        while let Some(one) = flying.recv().await {
            sleep_until(one.at).await;
            if self.carries(one.epoch) {
                self.net.arrive(self.client, &one.what);
            }
        }
    }

    async fn fall(self: Arc<Self>, mut flying: mpsc::UnboundedReceiver<Flying<Out>>) {
        while let Some(one) = flying.recv().await {
            sleep_until(one.at).await;
            if self.carries(one.epoch) {
                self.take(one.what.message);
            }
        }
    }

    fn carries(&self, epoch: u64) -> bool {
        let link = self.link.borrow();
        link.connected && link.epoch == epoch
    }

    fn take(&self, mut message: Incoming) {
        if let Some(reply) = locked(&self.replies).remove(&message.subject) {
            // Who asked may have left.
            reply.send(message).ok();
            return;
        }
        let subject = std::mem::take(&mut message.subject);
        let (inbox, subject) = subject.split_once('\n').unwrap_or((&subject, &subject));
        let inboxes = locked(&self.inboxes);
        let Some(inbox) = inboxes.get(inbox) else { return };
        message.subject = subject.to_owned();
        // The subscription may have ended.
        inbox.send(message.into_message()).ok();
    }

    /// The server sends.
    pub(super) fn push(&self, out: Out) {
        let epoch = self.link.borrow().epoch;
        self.down.put(out, epoch, self.latency());
    }

    fn latency(&self) -> Duration {
        let world = &self.net.world;
        if world.fault(world.plan.rates.slow_wire) { world.span(100, 2_500) } else { world.span(1, 3) }
    }

    fn launch(&self, sent: Sent) -> Result<(), WireError> {
        let epoch = {
            let link = self.link.borrow();
            if !link.connected {
                return Err(WireError::Disconnected);
            }
            link.epoch
        };
        self.up.put(sent, epoch, self.latency());
        Ok(())
    }

    /// The connection is gone, and with it what it carried.
    pub(super) fn lose(&self) {
        self.link.send_modify(|link| link.connected = false);
        locked(&self.replies).clear();
    }

    pub(super) fn restore(&self) {
        self.link.send_modify(|link| {
            *link = LinkState { connected: true, epoch: link.epoch.saturating_add(1), lame_duck: false, denied: None };
        });
    }

    /// A pull may be sent only through an open gate, and for no more than there is room.
    fn inspect(&self, sent: &Sent) {
        if !sent.subject.contains(".MSG.NEXT.") {
            return;
        }
        let Some(lane) = self.status.get().and_then(|status| status.lanes().into_iter().next()) else { return };
        let ask: serde_json::Value = serde_json::from_slice(&sent.payload).unwrap_or_default();
        let batch = ask.get("batch").and_then(serde_json::Value::as_u64).unwrap_or(0);
        self.net.world.note(PULL, format_args!("{} pulls {batch}", self.life.name));
        if lane.gate == "shut" {
            let why = lane.gate_reason.unwrap_or_default();
            self.net.world.breach(0, format!("I6: {} pulls while its gate is shut ({why})", self.life.name));
        }
        if locked(&self.net.server).is_tracker_full_since(self.opened) {
            let what = format!("I15: {} pulls although the tracker has long been full", self.life.name);
            self.net.world.breach(0, what);
        }
        if batch.saturating_add(u64::from(lane.in_flight)) > u64::from(lane.slots) {
            let what = format!("I7: {} pulls {batch}, holds {} of {}", self.life.name, lane.in_flight, lane.slots);
            self.net.world.breach(0, what);
        }
    }
}

/// The simulation's wire.
#[derive(Clone)]
pub(super) struct SimWire(pub(super) Arc<Socket>);

/// A subscription.
pub(super) struct Inbox(mpsc::UnboundedReceiver<ClientMessage>);

impl Stream for Inbox {
    type Item = ClientMessage;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<ClientMessage>> {
        self.0.poll_recv(context)
    }
}

fn sent(out: &Outgoing, reply: String) -> Sent {
    Sent { subject: out.subject.as_str().to_owned(), reply, headers: out.headers(), payload: out.payload.clone() }
}

impl Wire for SimWire {
    type Inbox = Inbox;

    async fn request(&self, out: Outgoing, within: Duration) -> Result<ClientMessage, WireError> {
        let socket = &self.0;
        socket.life.pass().await;
        let inbox = format!("{}.r{}", socket.prefix, socket.next.fetch_add(1, Ordering::Relaxed));
        let (give, reply) = oneshot::channel();
        let rates = socket.net.world.plan.rates;
        let (no_request, no_reply) =
            (socket.net.world.fault(rates.lost_request), socket.net.world.fault(rates.lost_reply));
        if !no_reply {
            locked(&socket.replies).insert(inbox.clone(), give);
        }
        if !no_request {
            socket.launch(sent(&out, inbox.clone()))?;
        }
        let answer = async {
            if no_reply {
                std::future::pending::<()>().await;
            }
            reply.await
        };
        let answer = timeout(within, answer).await;
        locked(&socket.replies).remove(&inbox);
        socket.life.pass().await;
        match answer {
            Err(_) => Err(WireError::TimedOut),
            Ok(Err(_)) => Err(WireError::Disconnected),
            Ok(Ok(message)) if message.status.is_some_and(|(code, _)| code == 503) => Err(WireError::NoResponders),
            Ok(Ok(message)) => Ok(message.into_message()),
        }
    }

    async fn send(&self, out: Outgoing, reply: String) -> Result<(), WireError> {
        self.0.life.pass().await;
        let sent = sent(&out, reply);
        self.0.inspect(&sent);
        let world = &self.0.net.world;
        if world.fault(world.plan.rates.lost_request) { Ok(()) } else { self.0.launch(sent) }
    }

    async fn listen(&self, subject: String) -> Result<Inbox, WireError> {
        self.0.life.pass().await;
        let (give, inbox) = mpsc::unbounded_channel();
        let mut inboxes = locked(&self.0.inboxes);
        inboxes.retain(|_, inbox| !inbox.is_closed());
        inboxes.insert(subject, give);
        Ok(Inbox(inbox))
    }

    fn inbox_prefix(&self) -> &str {
        &self.0.prefix
    }

    fn nonce(&self) -> String {
        format!("n{}", self.0.next.fetch_add(1, Ordering::Relaxed))
    }

    fn link(&self) -> Listener<LinkState> {
        self.0.link.subscribe()
    }

    async fn reconnect(&self) {
        self.0.life.pass().await;
        self.0.net.cut(self.0.client, Duration::from_millis(50));
    }
}
