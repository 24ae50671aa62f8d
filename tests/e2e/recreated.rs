//! Stream and consumer deleted and made again under a running worker.

use std::time::Duration;

use serde_json::Value;

use crate::load::Load;
use crate::process::wait_until;
use crate::site::{EXPIRES, Setup, Site};

#[tokio::test]
async fn a_recreated_stream_counts_from_one_again_and_its_events_are_others() {
    let site = Site::new(Setup::default()).await;
    let worker = site.worker().await;
    let old = Load::unreadable("old", 20).then(Load::plain(14, 50));
    site.publish(&old).await;
    site.drained(&worker).await;
    assert_eq!(worker.lane().await.unwrap().settled, 50);

    site.broker.api("STREAM.DELETE.PAYMENTS", &Value::Null).await.unwrap();
    worker.until("it notices", |lane| !lane.ready).await;
    site.provision(&[]).await;
    let new = Load::plain(15, 50).then(Load::unreadable("new", 20));
    site.publish(&new).await;
    worker.until("it takes the new ones", |lane| lane.settled > 50).await;
    site.drained(&worker).await;
    assert_eq!(site.stored_in("PAYMENT_DEAD_LETTERS").await, 40, "the old ones are kept, the new ones beside them");
    let lane = worker.lane().await.unwrap();
    assert_eq!((lane.settled, lane.dead_lettered), (100, 40));
    worker.stop().await;
    site.balances(new.expected).await;
    assert_eq!(site.reconciled().await.records_without_event, 70);
}

#[tokio::test]
async fn an_event_with_the_number_of_a_lost_one_gets_no_answer_and_shows() {
    let mut site = Site::new(Setup::default()).await;
    let worker = site.worker().await;
    let kept = Load::plain(31, 5);
    site.publish(&kept).await;
    site.drained(&worker).await;
    let folder = site.folder("kept");
    site.server.kill9().unwrap();
    site.keep_streams(&folder);
    site.server.restart().await.unwrap();
    worker.until("it is ready again", |lane| lane.ready).await;
    // Its end is on record, and then the server forgets that it ever was.
    site.publish(&Load::unreadable("lost", 1)).await;
    site.drained(&worker).await;
    site.server.kill9().unwrap();
    site.bring_back_streams(&folder);
    site.server.restart().await.unwrap();
    worker.until("it is ready again", |lane| lane.ready).await;

    let next = Load::plain(32, 1).then(Load::plain(33, 20));
    site.publish(&next).await;
    let told = async |count| site.stored_in("PAYMENT_OUTCOMES").await == count;
    wait_until("the others settle", Duration::from_secs(20), async || told(25).await).await;
    worker.until("it is seen", |lane| lane.foreign_events == 1 && lane.in_flight == 0).await;
    let seen = worker.watch(EXPIRES * 2).await;
    assert!(seen.iter().all(|(_, lane)| lane.handed_back == 1), "it is looked at seldom");
    let left = site.consumer().await.unwrap();
    assert_eq!((left.num_pending, left.num_ack_pending, left.ack_floor.stream_seq), (0, 1, 5), "{left:?}");
    assert!(told(25).await, "nothing is said of it");
    assert_eq!(site.stored_in("PAYMENT_DEAD_LETTERS").await, 0);
    let (code, page) = worker.page("/readyz").await;
    assert!(code == 200 && page.contains("CRITICAL: 1 events have numbers of lost messages"), "{page}");
    assert!(worker.said("this event's number is on record as another message's").is_some());

    let found = site.reconciled().await;
    assert_eq!((found.published, found.settled, found.held()), (26, 25, 1), "{found:?}");

    // What the log says to do about it.
    site.publish_as("once more", &next.bodies[0]).await;
    wait_until("it settles under another number", Duration::from_secs(20), async || told(26).await).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_stream_recreated_while_all_slots_are_held_gets_no_answer_meant_for_the_old_one() {
    let site = Site::new(Setup { busy_timeout: "10s", ..Setup::default() }).await;
    let worker = site.worker().await;
    let lock = site.lock();
    site.publish(&Load::plain(16, 64)).await;
    worker.until("all slots are taken", |lane| lane.in_flight == 64).await;
    site.broker.api("STREAM.DELETE.PAYMENTS", &Value::Null).await.unwrap();
    site.provision(&[]).await;
    let new = Load::plain(17, 200);
    site.publish(&new).await;
    wait_until("it notices", Duration::from_secs(20), async || worker.said("was recreated").is_some()).await;
    drop(lock);
    site.drained(&worker).await;
    worker.stop().await;
    site.balances(new.expected).await;
}

#[tokio::test]
async fn a_consumer_recreated_while_all_slots_are_held_delivers_everything_again_and_nothing_settles_twice() {
    let site = Site::new(Setup { busy_timeout: "10s", ..Setup::default() }).await;
    let worker = site.worker().await;
    let load = Load::plain(18, 500);
    site.publish(&Load {
        bodies: load.bodies[..100].to_vec(),
        expected: Load::plain(18, 100).expected,
        ..Load::default()
    })
    .await;
    site.drained(&worker).await;
    let lock = site.lock();
    site.publish(&Load {
        bodies: load.bodies[100..].to_vec(),
        expected: Load::plain(18, 400).expected,
        ..Load::default()
    })
    .await;
    worker.until("all slots are taken", |lane| lane.in_flight == 64).await;
    site.remove_consumer().await;
    site.provision(&["--start", "all"]).await;
    wait_until("it notices", Duration::from_secs(20), async || worker.said("was recreated").is_some()).await;
    drop(lock);
    site.drained(&worker).await;
    worker.stop().await;
    site.balances(load.expected).await;
    assert_eq!(site.stored_in("PAYMENT_OUTCOMES").await, 500, "told once each");
}
