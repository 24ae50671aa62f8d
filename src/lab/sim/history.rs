//! One history: workers that live and die over one broker and one database, load, faults, then peace, and the checks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::SignedDuration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::backend::{Memory, Shelf};
use super::check;
use super::facts::Facts;
use super::ledgers::Ledgers;
use super::net::Net;
use super::rail::{NAMES, SimRail};
use super::screen::{Screen, SimCheck};
use super::server::Server;
use super::setting::{self, Setting};
use super::wire::SimWire;
use super::world::{Life, World, locked};
use crate::broker::{Broker, Listener, Teller};
use crate::lab::load::{Generated, Generator, GeneratorSettings};
use crate::store::Store;
use crate::worker::{Drained, Outside, StatusHandle, Worker};

/// How long it may take, after the last fault, until nothing is left: the longest claim, inquiry and open time.
const PATIENCE: Duration = Duration::from_secs(400);
/// Until the rail has taken the last order that was under way.
const AFTERMATH: Duration = Duration::from_secs(10);

/// What all parts of a history share.
pub(super) struct Stage {
    pub(super) world: Arc<World>,
    pub(super) net: Arc<Net>,
    pub(super) shelf: Shelf,
    pub(super) ledgers: Arc<Ledgers>,
    screen: Arc<Screen>,
    pub(super) setting: Setting,
    /// What was published, by message id.
    pub(super) load: BTreeMap<String, Generated>,
    /// What the workers at work say of themselves.
    status: Mutex<BTreeMap<u64, StatusHandle>>,
}

/// A process at work.
struct Running {
    life: Arc<Life>,
    client: u64,
    stop: Option<oneshot::Sender<()>>,
    worker: tokio::task::JoinHandle<Drained>,
    writer: tokio::task::JoinHandle<()>,
}

/// Plays a history to its end; the world then knows whether an invariant was broken.
pub(super) async fn play(world: &Arc<World>) -> Option<Arc<Stage>> {
    let setting = Setting::of(&world.plan)?;
    let shelf = Shelf::default();
    let server = Server::new(Arc::clone(world), shelf.clone(), setting.streams.payments.clone());
    let net = Net::new(Arc::clone(world), server);
    let addresses = setting::addresses();
    let events = Generator::new(GeneratorSettings {
        seed: world.plan.seed,
        accounts: 8,
        broken_percent: 30,
        ..GeneratorSettings::new(world.plan.payments)
    });
    let load: Vec<(String, String, Generated)> = (1..)
        .zip(events)
        .map(|(line, mut event)| {
            if world.plan.expiring {
                event.body = expiring(world, &event.body);
            }
            let address = addresses.of(&event.body, line);
            (address.subject, address.message_id, event)
        })
        .collect();
    let by_id = load.iter().map(|(_, id, event)| (id.clone(), event.clone())).collect();
    let debtors = load.iter().filter_map(|(_, _, event)| setting.debtor(&event.body, world.now())).collect();
    *locked(&shelf.facts) = Facts::new(&world.plan, &setting.lane, debtors);
    let (world, ledgers, screen) = (Arc::clone(world), Arc::default(), Arc::new(Screen::new(world)));
    let status = Mutex::default();
    let stage = Arc::new(Stage { world, net, shelf, ledgers, screen, setting, load: by_id, status });
    let peace = Teller::new(false);
    let keepers: Vec<_> = (0..stage.world.plan.workers)
        .map(|number| tokio::spawn(keep(Arc::clone(&stage), number, peace.subscribe())))
        .collect();
    let publisher = tokio::spawn(publish(Arc::clone(&stage), load));
    let quakes = tokio::spawn(quake(Arc::clone(&stage)));
    tokio::spawn(watch_bounds(Arc::clone(&stage)));
    let story = async {
        sleep(stage.world.plan.trouble).await;
        stage.world.heal();
        // A fault under way ends by itself.
        drop((quakes.await, publisher.await));
        drain(&stage).await;
        peace.send_modify(|peace| *peace = true);
        for keeper in keepers {
            drop(keeper.await);
        }
        sleep(AFTERMATH).await;
        check::end(&stage);
    };
    tokio::select! {
        biased;
        () = stage.world.broken.notified() => {}
        () = story => {}
    }
    Some(stage)
}

/// Half of the bodies get an end within the history.
fn expiring(world: &World, body: &Bytes) -> Bytes {
    const FIRST: &str = r#"{"payment_id":""#;
    let at = world.now().saturating_add(SignedDuration::try_from(world.span(500, 20_000)).unwrap_or_default());
    match (std::str::from_utf8(body), at) {
        (Ok(text), Ok(at)) if world.odds(50) && text.starts_with(FIRST) && !text.contains("expires_at") => {
            text.replacen(FIRST, &format!(r#"{{"expires_at":"{at}","payment_id":""#), 1).into()
        }
        _ => body.clone(),
    }
}

/// I8: everything comes to its end.
async fn drain(stage: &Stage) {
    let began = Instant::now();
    while !locked(&stage.net.server).is_drained() {
        if began.elapsed() >= PATIENCE {
            let server = locked(&stage.net.server);
            let oldest = server.consumer.as_ref().and_then(super::consumer::Durable::oldest);
            let oldest = oldest.or_else(|| locked(&stage.shelf.db).oldest_tracked()).unwrap_or(0);
            let what = format!("I8: not drained {} s after the last fault; event {oldest} is left", PATIENCE.as_secs());
            stage.world.breach(oldest, what);
            return;
        }
        sleep(Duration::from_millis(250)).await;
    }
    stage.world.note(0, format_args!("drained"));
}

/// Keeps one worker alive: started again whenever it has died, until there is peace.
async fn keep(stage: Arc<Stage>, number: u64, mut peace: Listener<bool>) {
    let world = Arc::clone(&stage.world);
    for incarnation in 1_u32.. {
        let mortal = world.plan.kills && !world.is_healed();
        let effects = if mortal && world.odds(60) { world.below(400) } else { u64::MAX >> 2 };
        let life = Life::new(format!("w{number}.{incarnation}"), i64::try_from(effects).unwrap_or(i64::MAX));
        let running = start(&stage, number, life).await;
        let lifetime = mortal.then(|| world.span(500, 9_000));
        let life = Arc::clone(&running.life);
        let end = tokio::select! {
            biased;
            () = peace.wait_for(|peace| *peace) => Fate::Peace,
            () = life.ended.notified() => Fate::Spent,
            () = until(&world, lifetime) => if world.odds(30) { Fate::Stopped } else { Fate::Spent },
        };
        match end {
            Fate::Spent => kill(&stage, running),
            Fate::Stopped => end_in_order(&stage, running).await,
            Fate::Peace => {
                end_in_order(&stage, running).await;
                return;
            }
        }
        world.pause(0, 3_000).await;
    }
}

/// How a process ends.
enum Fate {
    /// Killed at an effect of its own, or at any time.
    Spent,
    /// Told to stop.
    Stopped,
    /// There is nothing left to do.
    Peace,
}

/// After a lifetime, and never once the faults have healed.
async fn until(world: &World, lifetime: Option<Duration>) {
    if let Some(lifetime) = lifetime {
        sleep(lifetime).await;
    }
    if lifetime.is_none() || world.is_healed() {
        std::future::pending::<()>().await;
    }
}

async fn start(stage: &Stage, number: u64, life: Arc<Life>) -> Running {
    let wire = stage.net.connect(Arc::clone(&life)).await;
    let memory = Memory::new(Arc::clone(&stage.world), Arc::clone(&life), stage.shelf.clone());
    let setting = &stage.setting;
    let (store, writer) = Store::start_here(memory, setting.book.clone(), setting.limits, &life.name);
    let broker = Broker::new(wire.clone(), setting.streams.clone());
    let worker = Worker::new(broker, store, vec![setting.lane.clone()]);
    let mut worker = worker.name(life.name.as_str()).outside(Outside::of(Arc::clone(&stage.world) as _));
    let (world, shelf) = (|| Arc::clone(&stage.world), || stage.shelf.clone());
    if world().plan.screened {
        worker = worker.check(SimCheck::new(world(), Arc::clone(&life), Arc::clone(&stage.screen), shelf()));
    }
    let status = worker.status();
    // Set once for each connection.
    wire.0.status.set(status.clone()).ok();
    locked(&stage.status).insert(number, status);
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async move {
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let run: BoxFuture<'static, Drained> = if world().plan.rail {
        let rail = |name| SimRail::new(name, world(), Arc::clone(&life), Arc::clone(&stage.ledgers), shelf());
        let [first, second] = NAMES;
        let mut worker = worker.rail(rail(first));
        if world().plan.second {
            worker = worker.fallbacks([(setting.lane.name.clone(), Arc::new(rail(second)))]);
        }
        Box::pin(worker.run(stopped))
    } else {
        Box::pin(worker.run(stopped))
    };
    Running { life, client: wire.0.client, stop: Some(stop), worker: tokio::spawn(run), writer }
}

/// SIGKILL: nothing of it happens any more, wherever it was.
fn kill(stage: &Stage, running: Running) {
    stage.world.note(0, format_args!("{} is killed", running.life.name));
    running.life.end();
    running.worker.abort();
    running.writer.abort();
    stage.net.bury(running.client);
}

/// SIGTERM: it finishes or hands back what it holds.
async fn end_in_order(stage: &Stage, mut running: Running) {
    stage.world.note(0, format_args!("{} is told to stop", running.life.name));
    if let Some(stop) = running.stop.take() {
        // It may have ended by itself.
        stop.send(()).ok();
    }
    let limits = stage.setting.lane.limits;
    let longest = limits.grace.saturating_add(limits.expires).saturating_add(Duration::from_secs(3));
    let life = Arc::clone(&running.life);
    let ended = async {
        tokio::select! {
            biased;
            () = life.ended.notified() => None,
            drained = &mut running.worker => Some(drained),
        }
    };
    match timeout(longest, ended).await {
        Ok(Some(Ok(drained))) => stage.world.note(0, format_args!("{} stopped: {drained:?}", running.life.name)),
        Ok(Some(Err(panic))) => stage.world.breach(0, format!("{} panicked: {panic}", running.life.name)),
        Ok(None) => {}
        Err(_) => stage.world.breach(0, format!("I8: {} does not end within its grace time", running.life.name)),
    }
    running.life.end();
    running.worker.abort();
    running.writer.abort();
    stage.net.bury(running.client);
}

/// Publishes until each event has its PubAck.
async fn publish(stage: Arc<Stage>, load: Vec<(String, String, Generated)>) {
    let life = Life::new("publisher".to_owned(), i64::MAX);
    let wire: SimWire = stage.net.connect(life).await;
    let broker = Broker::new(wire, stage.setting.streams.clone());
    let stream = &stage.setting.streams.payments;
    let each = u64::try_from(stage.world.plan.trouble.as_millis()).unwrap_or(0) / stage.world.plan.payments.max(1);
    for (subject, id, event) in load {
        while broker.publish_confirmed(&subject, &id, &[], event.body.clone(), stream).await.is_err() {
            stage.world.pause(50, 400).await;
        }
        if stage.world.odds(60) {
            stage.world.pause(0, each).await;
        }
    }
}

/// What befalls network and server as a whole, until the faults heal.
async fn quake(stage: Arc<Stage>) {
    let (world, net) = (&stage.world, &stage.net);
    while world.plan.quakes > 0 && !world.is_healed() {
        world.pause(200, world.plan.quakes).await;
        if world.is_healed() {
            return;
        }
        match world.below(10) {
            0..4 => {
                if let Some(client) = net.anyone() {
                    net.cut(client, world.span(10, 4_000));
                }
            }
            4..7 => net.crash(world.span(20, 3_000)).await,
            7..9 => net.elect(world.span(0, 2_000)),
            _ => net.recreate(world.span(20, 1_500)).await,
        }
    }
}

/// I7, looked at all the time: no lane holds more than it may.
async fn watch_bounds(stage: Arc<Stage>) {
    loop {
        sleep(Duration::from_millis(20)).await;
        let lanes: Vec<_> = locked(&stage.status).values().flat_map(StatusHandle::lanes).collect();
        for lane in lanes {
            if lane.in_flight > lane.slots {
                stage.world.breach(0, format!("I7: {} events in hand, {} allowed", lane.in_flight, lane.slots));
            }
        }
    }
}
