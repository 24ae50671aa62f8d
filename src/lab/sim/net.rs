//! Clients and server together, and what befalls them as a whole: cut connections, a killed server, a new leader, a
//! consumer that is made anew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::consumer::Out;
use super::server::{Sent, Server};
use super::wire::{SimWire, Socket};
use super::world::{Life, World, locked};
use crate::broker::Teller;

/// The network with the server in its middle.
pub(super) struct Net {
    pub(super) world: Arc<World>,
    pub(super) server: Mutex<Server>,
    sockets: Mutex<BTreeMap<u64, Arc<Socket>>>,
    up: Teller<bool>,
    poke: Notify,
}

impl Net {
    pub(super) fn new(world: Arc<World>, server: Server) -> Arc<Self> {
        let (server, sockets) = (Mutex::new(server), Mutex::default());
        let net = Arc::new(Self { world, server, sockets, up: Teller::new(true), poke: Notify::new() });
        tokio::spawn(Arc::clone(&net).run());
        net
    }

    /// Lets time pass for the server.
    async fn run(self: Arc<Self>) {
        loop {
            let outs = if *self.up.borrow() { locked(&self.server).tick() } else { Vec::new() };
            self.spread(outs);
            let deadline = locked(&self.server).consumer.as_ref().and_then(super::consumer::Durable::deadline);
            let next = async {
                match deadline {
                    Some(at) if *self.up.borrow() => {
                        sleep_until(at.max(Instant::now() + Duration::from_millis(1))).await
                    }
                    Some(_) | None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.poke.notified() => {}
                () = next => {}
            }
        }
    }

    /// Connects a process, as soon as the server is there.
    pub(super) async fn connect(self: &Arc<Self>, life: Arc<Life>) -> SimWire {
        let mut up = self.up.subscribe();
        up.wait_for(|up| *up).await;
        let client = {
            let sockets = locked(&self.sockets);
            sockets.keys().next_back().map_or(1, |last| last.saturating_add(1))
        };
        self.world.note(0, format_args!("{} connects as client {client}", life.name));
        let socket = Socket::open(Arc::clone(self), life, client);
        locked(&self.sockets).insert(client, Arc::clone(&socket));
        locked(&self.server).clients.insert(client);
        SimWire(socket)
    }

    /// A message reaches the server.
    pub(super) fn arrive(&self, client: u64, sent: &Sent) {
        if !*self.up.borrow() {
            return;
        }
        let outs = locked(&self.server).handle(client, sent);
        self.spread(outs);
        self.poke.notify_one();
    }

    fn spread(&self, outs: Vec<Out>) {
        let sockets = locked(&self.sockets);
        for out in outs {
            if let Some(socket) = sockets.get(&out.client) {
                socket.push(out);
            }
        }
    }

    fn hang_up(&self, client: u64) {
        let mut server = locked(&self.server);
        server.clients.remove(&client);
        if let Some(consumer) = &mut server.consumer {
            consumer.forget(client);
        }
    }

    fn socket(&self, client: u64) -> Option<Arc<Socket>> {
        locked(&self.sockets).get(&client).cloned()
    }

    /// A process ended: its connection closes. What it had sent may still arrive.
    pub(super) fn bury(&self, client: u64) {
        if self.world.odds(50)
            && let Some(socket) = self.socket(client)
        {
            socket.lose();
        }
        self.hang_up(client);
    }

    /// Cuts a connection for a while. The server may notice at once, or only when the client is back.
    pub(super) fn cut(self: &Arc<Self>, client: u64, away: Duration) {
        let Some(socket) = self.socket(client) else { return };
        if !socket.link.borrow().connected {
            return;
        }
        self.world.note(0, format_args!("client {client} is cut off for {} ms", away.as_millis()));
        socket.lose();
        if self.world.odds(60) {
            self.hang_up(client);
        }
        let net = Arc::clone(self);
        tokio::spawn(async move {
            sleep(away).await;
            net.back(&socket).await;
        });
    }

    async fn back(&self, socket: &Socket) {
        let mut up = self.up.subscribe();
        up.wait_for(|up| *up).await;
        if socket.life.is_dead() || socket.link.borrow().connected {
            return;
        }
        self.hang_up(socket.client);
        locked(&self.server).clients.insert(socket.client);
        socket.restore();
        self.world.note(0, format_args!("client {} is back", socket.client));
    }

    fn living(&self) -> Vec<Arc<Socket>> {
        locked(&self.sockets).values().filter(|socket| !socket.life.is_dead()).cloned().collect()
    }

    /// One living client, if there is any.
    pub(super) fn anyone(&self) -> Option<u64> {
        let living = self.living();
        let at = self.world.below(u64::try_from(living.len()).unwrap_or(u64::MAX));
        living.get(usize::try_from(at).ok()?).map(|socket| socket.client)
    }

    /// The server is killed and started again: the streams are kept, the consumer goes back to what was written down.
    pub(super) async fn crash(self: &Arc<Self>, away: Duration) {
        self.world.note(0, format_args!("the server is killed for {} ms", away.as_millis()));
        self.up.send_modify(|up| *up = false);
        let sockets = self.living();
        for socket in &sockets {
            socket.lose();
        }
        {
            let mut server = locked(&self.server);
            server.clients.clear();
            if let Some(consumer) = &mut server.consumer {
                consumer.crash();
            }
        }
        sleep(away).await;
        self.world.note(0, format_args!("the server is back"));
        self.up.send_modify(|up| *up = true);
        self.poke.notify_one();
        for socket in sockets {
            let (net, late) = (Arc::clone(self), self.world.span(0, 800));
            tokio::spawn(async move {
                sleep(late).await;
                net.back(&socket).await;
            });
        }
    }

    /// Another server leads: pulls end, and for a while nobody answers.
    pub(super) fn elect(&self, mute: Duration) {
        self.world.note(0, format_args!("another leader, nobody answers for {} ms", mute.as_millis()));
        let outs = {
            let mut server = locked(&self.server);
            let now = Instant::now();
            server.mute = now.checked_add(mute).unwrap_or(now);
            server.consumer.as_mut().map(|consumer| consumer.refuse("Leadership Change")).unwrap_or_default()
        };
        self.spread(outs);
    }

    /// The consumer is deleted and, later, made anew: everything comes again.
    pub(super) async fn recreate(&self, away: Duration) {
        self.world.note(0, format_args!("the consumer is deleted for {} ms", away.as_millis()));
        let outs =
            locked(&self.server).consumer.take().map(|mut old| old.refuse("Consumer Deleted")).unwrap_or_default();
        self.spread(outs);
        sleep(away).await;
        locked(&self.server).create_consumer();
        self.world.note(0, format_args!("the consumer is there again"));
        self.poke.notify_one();
    }
}
