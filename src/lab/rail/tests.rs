//! The rail over HTTP against the stand-in, which remembers what really happened.

use tempfile::TempDir;

use super::ScriptedRail;
use super::ledger::Ledger;
use super::script::Script;
use crate::domain::{Answer, Code, Finding, NotSent, RailKey};
use crate::rails::Rail;
use crate::rails::http::tests::harness::{Orders, rail, settings};
use crate::rails::http::{Http, Template};

struct Bank {
    server: ScriptedRail,
    rail: Http,
    orders: Orders,
    _folder: TempDir,
}

impl Bank {
    async fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&folder.path().join("ledger.db")).unwrap();
        let script = Script::parse(script).unwrap();
        let server = ScriptedRail::start("127.0.0.1:0".parse().unwrap(), script, ledger).unwrap();
        let rail = rail(&format!("http://{}", server.address())).await;
        Self { server, rail, orders: Orders::new(), _folder: folder }
    }

    async fn pay(&self, id: &str) -> (Answer, RailKey) {
        let order = self.orders.order(id).await;
        (self.rail.submit(&order).await, order.key().clone())
    }

    fn effects(&self) -> u32 {
        self.server.sums().unwrap().effects
    }
}

fn is_settled(finding: &Finding) -> bool {
    matches!(finding, Finding::Answered(Answer::Settled(_)))
}

#[tokio::test]
async fn a_lost_reply_is_unknown_and_the_inquiry_finds_the_settlement() {
    let bank = Bank::new("[[behaviour]]\nkind = \"lose_reply\"\n").await;
    let (answer, key) = bank.pay("P-1").await;
    assert_eq!((answer, bank.effects()), (Answer::Unknown, 1));
    assert!(is_settled(&bank.rail.inquire(&key).await));
}

#[tokio::test]
async fn a_stored_500_stays_unknown_and_only_the_inquiry_resolves_it() {
    let bank = Bank::new("[[behaviour]]\nkind = \"stored_error\"\n").await;
    let order = bank.orders.order("P-1").await;
    for _ in 0..3 {
        assert_eq!(bank.rail.submit(&order).await, Answer::Unknown);
    }
    assert!(is_settled(&bank.rail.inquire(order.key()).await));
    assert_eq!(bank.effects(), 1);
}

#[tokio::test]
async fn errors_before_processing_are_unknown_or_not_sent_and_have_no_effect() {
    let script = |kind: &str| Script::parse(&format!("[[behaviour]]\n{kind}\n")).unwrap();
    let bank = Bank::new("").await;
    let retry_after = Some(std::time::Duration::from_secs(3));
    let cases = [
        ("kind = \"error\"", Answer::Unknown),
        ("kind = \"error\"\nstatus = 502", Answer::Unknown),
        ("kind = \"error\"\nstatus = 408", Answer::Unknown),
        ("kind = \"error\"\nstatus = 409", Answer::Unknown),
        ("kind = \"error\"\nstatus = 503", Answer::NotSent(NotSent::SaidNotProcessed { retry_after: None })),
        ("kind = \"too_many\"\nretry_after = 3", Answer::NotSent(NotSent::SaidNotProcessed { retry_after })),
        ("kind = \"deny\"", Answer::NotSent(NotSent::OurFault)),
        ("kind = \"error\"\nstatus = 403", Answer::NotSent(NotSent::OurFault)),
        ("kind = \"error\"\nstatus = 404", Answer::NotSent(NotSent::OurFault)),
        ("kind = \"reset\"", Answer::Unknown),
        ("kind = \"hang\"", Answer::Unknown),
    ];
    for (index, (kind, expected)) in cases.into_iter().enumerate() {
        bank.server.play(script(kind));
        assert_eq!(bank.pay(&format!("P-{index}")).await.0, expected, "{kind}");
    }
    assert_eq!(bank.effects(), 0);
}

#[tokio::test]
async fn replies_that_say_nothing_after_processing_are_unknown() {
    let bank = Bank::new("[[behaviour]]\nkind = \"wrong_body\"\n").await;
    assert_eq!(bank.pay("P-1").await.0, Answer::Unknown);
    bank.server.play(Script::parse("[[behaviour]]\nkind = \"hang_after\"\n").unwrap());
    assert_eq!(bank.pay("P-2").await.0, Answer::Unknown);
    assert_eq!(bank.effects(), 2);
}

#[tokio::test]
async fn a_refusal_keeps_its_code_and_what_is_under_way_settles_in_the_end() {
    let bank = Bank::new("[[behaviour]]\nkind = \"reject\"\ncode = \"AC04\"\n").await;
    assert_eq!(bank.pay("P-1").await.0, Answer::Rejected { code: Code::AC04, resubmit: false });
    bank.server.play(Script::parse("[[behaviour]]\nkind = \"in_progress\"\nafter = \"300ms\"\n").unwrap());
    let (answer, key) = bank.pay("P-2").await;
    assert_eq!((answer, bank.effects()), (Answer::InProgress, 0));
    while !is_settled(&bank.rail.inquire(&key).await) {
        tokio::task::yield_now().await;
    }
    assert_eq!(bank.effects(), 1);
}

#[tokio::test]
async fn a_key_used_with_another_body_is_held_for_a_person() {
    let bank = Bank::new("").await;
    let order = bank.orders.order("P-1").await;
    let other = Http::new({
        let mut other = settings(&format!("http://{}", bank.server.address()));
        other.body = Template::parse(r#"{"another": "{payment_id}"}"#).unwrap();
        other
    })
    .await
    .unwrap();
    assert!(matches!(bank.rail.submit(&order).await, Answer::Settled(_)));
    assert_eq!(other.submit(&order).await, Answer::Blocked);
    assert_eq!(bank.effects(), 1);
}

#[tokio::test]
async fn not_found_counts_only_once_an_inquiry_has_found_a_settled_payment() {
    let bank = Bank::new("").await;
    let never_sent = bank.orders.order("P-1").await;
    assert_eq!(bank.rail.inquire(never_sent.key()).await, Finding::CannotSay, "nothing is settled yet");
    let (answer, _) = bank.pay("P-2").await;
    assert!(matches!(answer, Answer::Settled(_)));
    assert_eq!(bank.rail.inquire(never_sent.key()).await, Finding::NotFound, "the settled one is found beside it");
    // From here on nobody needs to be asked again.
    bank.server.play(Script::parse("[[behaviour]]\nkind = \"lie\"\n").unwrap());
    assert_eq!(bank.rail.inquire(never_sent.key()).await, Finding::NotFound);
}

#[tokio::test]
async fn a_status_call_that_finds_nothing_at_all_is_not_believed() {
    let bank = Bank::new("[[behaviour]]\nkind = \"lie\"\n").await;
    let (settled, key) = bank.pay("P-1").await;
    assert!(matches!(settled, Answer::Settled(_)));
    let other = bank.orders.order("P-2").await;
    assert_eq!(bank.rail.inquire(other.key()).await, Finding::CannotSay);
    assert_eq!(bank.rail.inquire(&key).await, Finding::CannotSay);
    bank.server.play(Script::parse("[[behaviour]]\nkind = \"inquiry_error\"\n").unwrap());
    assert_eq!(bank.rail.inquire(&key).await, Finding::CannotSay);
}

#[tokio::test]
async fn a_token_is_exchanged_under_the_running_rail() {
    let folder = tempfile::tempdir().unwrap();
    let (theirs, ours) = (folder.path().join("theirs"), folder.path().join("ours"));
    std::fs::write(&theirs, "one").unwrap();
    std::fs::write(&ours, "one").unwrap();
    let bank = Bank::new(&format!("token_file = {:?}\n", theirs.display().to_string())).await;
    assert_eq!(bank.pay("P-0").await.0, Answer::NotSent(NotSent::OurFault), "no token at all");
    let mut settings = settings(&format!("http://{}", bank.server.address()));
    settings.token_file = Some(ours.clone());
    let rail = Http::new(settings).await.unwrap();
    assert!(matches!(rail.submit(&bank.orders.order("P-1").await).await, Answer::Settled(_)));
    std::fs::write(&theirs, "two").unwrap();
    assert_eq!(rail.submit(&bank.orders.order("P-2").await).await, Answer::NotSent(NotSent::OurFault));
    std::fs::write(&ours, "two").unwrap();
    // The refusal has made the rail look at its file again at once.
    assert!(matches!(rail.submit(&bank.orders.order("P-3").await).await, Answer::Settled(_)));
    assert_eq!(bank.effects(), 2);
}
