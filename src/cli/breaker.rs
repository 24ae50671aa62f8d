//! `acquit breaker`: looks at the settlement breakers of running workers and gives them orders.

use std::time::Duration;

use clap::{Args, Subcommand};
use reqwest::{Client, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::pause::{By, one_lane};
use super::setup::{connect_as, control_token};
use super::{Exit, Failure, Global, load, out, print_json};
use crate::config::Config;
use crate::domain::LaneName;
use crate::operate::control::breaker::{Answer, Order, Wish, on_record};
use crate::rails::http::plain_client;

pub(super) const EXAMPLES: &str = "Examples:
  acquit breaker status                          the worker at ops.listen of this configuration
  acquit breaker open --who ops-1 --why 'INC-7: rail double-booking'
  acquit breaker auto --url 10.0.0.7:9464 --url 10.0.0.8:9464 --who ops-1 --why 'INC-7: rail fixed'

`open` lets nothing through, `close` lets everything through whatever the calls say, `auto` gives it back to its own
judgement. It is held until `auto` or until the worker ends: A RESTART FORGETS IT, and other workers are not asked. To
stop a whole fleet for a time, over restarts, use `acquit pause`. Who and why are in the audit stream before anything
is sent. From another machine the worker wants the token of ops.control_token_file.";

/// The most workers of one order.
const WORKERS_MAX: usize = 256;

/// Flags of `breaker`.
#[derive(Debug, Clone, Args)]
pub struct BreakerArgs {
    #[command(subcommand)]
    verb: BreakerVerb,
}

#[derive(Debug, Clone, Subcommand)]
enum BreakerVerb {
    /// Show the breakers and who holds them
    #[command(after_help = EXAMPLES)]
    Status(Where),
    /// Hold it open: no pulls
    #[command(after_help = EXAMPLES)]
    Open(OrderArgs),
    /// Hold it closed, whatever the calls say
    #[command(after_help = EXAMPLES)]
    Close(OrderArgs),
    /// Give it back to its own judgement
    #[command(after_help = EXAMPLES)]
    Auto(OrderArgs),
}

#[derive(Debug, Clone, Args)]
struct Where {
    /// The lane; not needed where there is one only
    #[arg(long, value_name = "LANE", value_parser = LaneName::parse)]
    lane: Option<LaneName>,
    /// Where a worker's operations HTTP listens; may be repeated for a fleet [default: ops.listen]
    #[arg(long = "url", value_name = "URL")]
    urls: Vec<String>,
}

#[derive(Debug, Clone, Args)]
struct OrderArgs {
    #[command(flatten)]
    at: Where,
    #[command(flatten)]
    by: By,
}

/// Workers that are asked, and how.
pub(super) struct Workers {
    client: Client,
    pub(super) urls: Vec<String>,
    token: Option<SecretString>,
}

pub(super) async fn run(global: &Global, args: BreakerArgs) -> Result<Exit, Failure> {
    match args.verb {
        BreakerVerb::Status(at) => status(global, at).await,
        BreakerVerb::Open(args) => order(global, args, Wish::Open).await,
        BreakerVerb::Close(args) => order(global, args, Wish::Close).await,
        BreakerVerb::Auto(args) => order(global, args, Wish::Auto).await,
    }
}

async fn status(global: &Global, at: Where) -> Result<Exit, Failure> {
    let config = load(global)?;
    let workers = Workers::of(&config, &at.urls)?;
    let mut found = Vec::new();
    for url in &workers.urls {
        let status = workers.status(url).await?;
        let lanes: Vec<Value> = lanes(&status).filter(|lane| is_meant(lane, at.lane.as_ref())).map(shown).collect();
        found.push(json!({ "url": url, "worker": status.get("worker"), "lanes": lanes }));
    }
    if global.json {
        print_json(&json!({ "workers": found }));
    } else {
        found.iter().for_each(show);
    }
    Ok(Exit::Done)
}

async fn order(global: &Global, args: OrderArgs, wish: Wish) -> Result<Exit, Failure> {
    let mandate = args.by.mandate()?;
    let config = load(global)?;
    let lane = one_lane(&config, args.at.lane.as_ref())?;
    let workers = Workers::of(&config, &args.at.urls)?;
    // Whoever cannot be reached is known before there is a record of what was then not done.
    for url in &workers.urls {
        let status = workers.status(url).await?;
        if !lanes(&status).any(|one| is_meant(one, Some(&lane.name))) {
            let what = format!("the worker at {url} has no lane {}; check --lane and --url", lane.name);
            return Err(Failure::new(Exit::Unavailable, what));
        }
    }
    let broker = connect_as(&config, "breaker").await?;
    let order = on_record(&broker, lane, wish, &workers.urls, &mandate).await?;
    let mut answers = Vec::new();
    let mut failures = Vec::new();
    for url in &workers.urls {
        match workers.send(url, &lane.name, &order).await {
            Ok(answer) => answers.push((url, answer)),
            Err(failure) => failures.push(failure),
        }
    }
    if global.json {
        let done: Vec<Value> = answers.iter().map(|(url, answer)| json!({ "url": url, "answer": answer })).collect();
        let failed: Vec<&str> = failures.iter().map(|failure| failure.message.as_str()).collect();
        print_json(&json!({ "record": order.record, "workers": done, "failed": failed, "note": wish.note() }));
    } else {
        for (url, Answer { worker, lane, was, is, note: _ }) in &answers {
            out(&format!("{url} ({worker}): lane {lane}: settlement breaker {is}, was {was}"));
        }
        out(&format!("record {}; {}", order.record, wish.note()));
    }
    match failures.first() {
        None => Ok(Exit::Done),
        Some(first) => {
            let messages: Vec<&str> = failures.iter().map(|failure| failure.message.as_str()).collect();
            let what = format!("not every worker took the order: {}; running it again is safe", messages.join("; "));
            Err(Failure::new(first.exit, what))
        }
    }
}

impl Workers {
    pub(super) fn of(config: &Config, urls: &[String]) -> Result<Self, Failure> {
        if urls.len() > WORKERS_MAX {
            return Err(Failure::new(Exit::Usage, format!("--url: at most {WORKERS_MAX} workers at once")));
        }
        let listen = config.ops.listen;
        let urls = match urls {
            [] if listen.port() == 0 => {
                return Err(Failure::new(Exit::Usage, "ops.listen has port 0, which any port may be: give --url"));
            }
            [] => vec![base(&listen.to_string())?],
            urls => urls.iter().map(|url| base(url)).collect::<Result<_, _>>()?,
        };
        // The token goes where it was meant to go and nowhere else.
        let client = plain_client(Duration::from_secs(5)).map_err(|e| Failure::new(Exit::Bug, e.to_string()))?;
        Ok(Self { client, urls, token: control_token(config)? })
    }

    pub(super) async fn status(&self, url: &str) -> Result<Value, Failure> {
        let answer = self.client.get(format!("{url}/status")).send().await.map_err(|e| unreachable(url, &e))?;
        answer.json().await.map_err(|e| unreachable(url, &e))
    }

    async fn send(&self, url: &str, lane: &LaneName, order: &Order) -> Result<Answer, Failure> {
        self.post(url, &format!("lanes/{lane}/breaker"), order).await
    }

    /// Gives an order to one worker.
    pub(super) async fn post<O: Serialize, A: DeserializeOwned>(
        &self,
        url: &str,
        path: &str,
        order: &O,
    ) -> Result<A, Failure> {
        let mut request = self.client.post(format!("{url}/{path}")).json(order);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        let answer = request.send().await.map_err(|e| unreachable(url, &e))?;
        let status = answer.status();
        if status.is_success() {
            return answer.json().await.map_err(|e| unreachable(url, &e));
        }
        let why: Value = answer.json().await.unwrap_or_default();
        let why = why.get("error").and_then(Value::as_str).unwrap_or("without a word");
        let exit = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Denied,
            StatusCode::CONFLICT => Exit::Found,
            _ => Exit::Unavailable,
        };
        Err(Failure::new(exit, format!("the worker at {url} refuses ({status}): {why}")))
    }
}

fn unreachable(url: &str, error: &reqwest::Error) -> Failure {
    Failure::new(Exit::Unavailable, format!("no worker answers at {url}: {error}; check --url or ops.listen"))
}

/// `host:port` or `http://host:port`, as the beginning of a request's address.
fn base(url: &str) -> Result<String, Failure> {
    let text = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let parsed = url::Url::parse(&text).ok().filter(|parsed| {
        parsed.scheme() == "http"
            && parsed.has_host()
            && parsed.username().is_empty()
            && parsed.password().is_none()
            && parsed.query().is_none()
            && parsed.fragment().is_none()
    });
    match parsed {
        Some(_) => Ok(text.trim_end_matches('/').to_owned()),
        None => Err(Failure::new(Exit::Usage, "--url: write host:port or http://host:port (no TLS, no password)")),
    }
}

fn lanes(status: &Value) -> impl Iterator<Item = &Value> {
    status.get("lanes").and_then(Value::as_array).into_iter().flatten()
}

fn is_meant(lane: &Value, named: Option<&LaneName>) -> bool {
    named.is_none_or(|name| lane.get("lane").and_then(Value::as_str) == Some(name.as_str()))
}

/// What of a lane's status is about its breakers.
fn shown(lane: &Value) -> Value {
    let keys = ["lane", "gate", "gate_reason", "breakers", "breaker_forced", "breaker_opened", "breaker_probes"];
    keys.into_iter().map(|key| (key.to_owned(), lane.get(key).cloned().unwrap_or_default())).collect::<Value>()
}

fn show(worker: &Value) {
    let text = |value: &Value, key: &str| match value.get(key) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => "-".to_owned(),
        Some(other) => other.to_string(),
    };
    out(&format!("{} ({})", text(worker, "url"), text(worker, "worker")));
    for lane in lanes(worker) {
        let state = |name: &str| lane.get("breakers").map_or_else(String::new, |states| text(states, name));
        out(&format!(
            "  lane {}: gate {} ({}), settlement {}, outcomes {}, dead letters {}, inquiries {}",
            text(lane, "lane"),
            text(lane, "gate"),
            text(lane, "gate_reason"),
            state("settlement"),
            state("outcomes"),
            state("dead_letters"),
            state("inquiries"),
        ));
        if let Some(hold) = lane.get("breaker_forced").filter(|hold| !hold.is_null()) {
            let (who, why, since) = (text(hold, "who"), text(hold, "why"), text(hold, "since"));
            out(&format!("    held {} by {who} since {since}: {why}", text(hold, "to")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_named_by_host_and_port_or_by_a_plain_url() {
        for (given, meant) in [
            ("127.0.0.1:9464", "http://127.0.0.1:9464"),
            ("http://worker-0:9464/", "http://worker-0:9464"),
            ("[::1]:9464", "http://[::1]:9464"),
        ] {
            assert_eq!(base(given).map_err(|e| e.message), Ok(meant.to_owned()));
        }
        for bad in ["https://a:1", "http://u:p@a:1", "", "http://a:1/?x=1", "ftp://a"] {
            assert_eq!(base(bad).map_err(|e| e.exit), Err(Exit::Usage), "{bad}");
        }
    }
}
