use std::fs;

use super::*;

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Loads `text` as a file of a folder of its own; what is shown names the file without the folder.
pub(super) fn load(text: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("acquit.toml");
    fs::write(&file, text).unwrap();
    let sources = Sources { file: Some(file), env: pairs(env), flags: pairs(flags) };
    Config::load(sources).map_err(|errors| errors.to_string().replace(&format!("{}/", folder.path().display()), ""))
}

pub(super) fn refused(text: &str) -> String {
    load(text, &[], &[]).unwrap_err()
}

fn printed(config: &Config, key: &str) -> (String, String) {
    let value = config.print().iter().find(|value| value.key == key).unwrap();
    (value.value.clone(), value.origin.to_string())
}

#[test]
fn an_empty_file_means_the_defaults() {
    let config = load("", &[], &[]).unwrap();
    assert_eq!(config.broker.servers, ["nats://127.0.0.1:4222"]);
    assert_eq!(config.broker.login, Login::None);
    assert_eq!((config.store.group, config.store.wal_limit), (512, 256 << 20));
    assert_eq!((config.book.open_unknown, config.book.overdraft), (true, false));
    assert_eq!(config.ops.listen.port(), 9464);
    let [lane] = config.lanes.as_slice() else { panic!("one lane") };
    assert_eq!((lane.name.as_str(), lane.consumer.as_str()), ("payments", "acquit-payments"));
    assert_eq!(printed(&config, "lane.payments.consumer").0, "acquit-payments");
    assert_eq!(lane.breaker.settings(), &crate::resilience::BreakerSettings::default());
}

#[test]
fn all_errors_are_told_at_once_each_with_its_line_its_rule_and_its_remedy() {
    let text = r#"
[broker]
servers = ["http://nats"]
ping_interval = "1m"

[store]
group = "many"
wal_limit = "1KiB"

[[lane]]
name = "instant"
schemes = ["sct-inst", "fednow"]
route = "http"
grace = "6s"
[lane.breaker]
minimum_number_of_calls = 200

[ops]
listen = "localhost"
"#;
    let expected = "\
broker.servers (acquit.toml:3): must be at least one address that begins with nats:// or tls://; write [\"nats://127.0.0.1:4222\"] for instance
broker.ping_interval (acquit.toml:4): must be a duration from 5s to 10s; write it with units, such as \"250ms\", \"2s\" or \"1m30s\"
store.group (acquit.toml:7): must be a whole number from 1 to 4096; write it in digits, without quotes in the file
store.wal_limit (acquit.toml:8): must be a size from 1MiB to 64GiB; write it in bytes or with a unit, such as \"64KiB\" or \"256MiB\"
lane.instant.schemes (acquit.toml:12): must name built-in schemes (book, sct, sct-inst, cbpr) or a [[scheme]] of the file; correct the name or define the scheme
lane.instant.route (acquit.toml:13): must be \"book\" or the name of a [[rail]]; correct the name or define the rail
lane.instant.grace (acquit.toml:14): must be at least expires, the rail's deadline (0s for the book) and 5s; change this value or the one it depends on
lane.instant.breaker.minimum_number_of_calls (acquit.toml:16): must not be above sliding_window_size in a window by count; change this value or the one it depends on
ops.listen (acquit.toml:19): must be an IP address and a port; write \"127.0.0.1:9464\" or \"[::1]:9464\" for instance";
    assert_eq!(refused(text), expected);
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    let text =
        "[broker]\nserver = []\n[stoer]\npath = \"x\"\n[[lane]]\nname = \"a\"\n[lane.retry]\natempts = 3\ncolour = 1\n";
    let expected = "\
broker.server (acquit.toml:2): is no key of this version; did you mean broker.servers?
stoer (acquit.toml:3): is no key of this version; did you mean store?
lane.retry.atempts (acquit.toml:8): is no key of this version; did you mean lane.retry.attempts?
lane.retry.colour (acquit.toml:9): is no key of this version; take it out; `acquit check --example-config` lists every key";
    assert_eq!(refused(text), expected);
}

#[test]
fn unknown_variables_and_flags_are_refused_and_those_of_kubernetes_are_not() {
    let env = [
        ("ACQUIT_STORE_PAHT", "x"),
        ("ACQUIT_SERVICE_HOST", "10.0.0.1"),
        ("ACQUIT_OPS_PORT_9464_TCP_ADDR", "10.0.0.1"),
        ("ACQUIT_NATS_SERVER", "/usr/bin/nats-server"),
        ("ACQUIT_LOG_LEVEL", ""),
        ("PATH", "/bin"),
    ];
    let told = load("", &env, &[("store.pth", "x"), ("lane.other.slots", "1")]).unwrap_err();
    let expected = "\
store.pth (command line): is no key of this version; did you mean store.path?
lane.other.slots (command line): names a lane, rail, scheme or account that does not exist; declare it in the file first
store.paht (ACQUIT_STORE_PAHT): is no key of this version; did you mean store.path?";
    assert_eq!(told, expected);
}

#[test]
fn flags_go_over_variables_and_variables_over_the_file() {
    let text = "[store]\ngroup = 1\npath = \"file.db\"\npoison_starts = 7\n[[lane]]\nname = \"sct-inst\"\nslots = 1\n";
    let env = [("ACQUIT_STORE_GROUP", "2"), ("ACQUIT_STORE_PATH", "env.db"), ("ACQUIT_LANE_SCT_INST_SLOTS", "9")];
    let config = load(text, &env, &[("store.group", "3")]).unwrap();
    assert_eq!((config.store.group, config.store.place.clone()), (3, Place::File("env.db".into())));
    assert_eq!(config.lanes.first().map(|lane| lane.limits.slots), Some(9));
    assert_eq!(printed(&config, "store.group"), ("3".to_owned(), "command line".to_owned()));
    assert_eq!(printed(&config, "store.path"), ("env.db".to_owned(), "ACQUIT_STORE_PATH".to_owned()));
    assert_eq!(printed(&config, "store.busy_timeout"), ("250ms".to_owned(), "default".to_owned()));
    let (value, origin) = printed(&config, "store.poison_starts");
    assert!(value == "7" && origin.ends_with("acquit.toml:4"), "{value} {origin}");
}

#[test]
fn secrets_are_neither_printed_nor_repeated_in_errors() {
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("canary-file");
    fs::write(&password, "secret").unwrap();
    let path = password.display().to_string();
    let env = [("ACQUIT_BROKER_USER", "acquit"), ("ACQUIT_BROKER_PASSWORD_FILE", path.as_str())];
    let config = load("[[account]]\niban = \"DE89370400440532013000\"\n", &env, &[]).unwrap();
    let expected = ("(hidden)".to_owned(), "ACQUIT_BROKER_PASSWORD_FILE".to_owned());
    assert_eq!(printed(&config, "broker.password_file"), expected);
    let shown = format!("{:?}", config.print());
    assert!(!shown.contains("canary") && !shown.contains("DE89"), "{shown}");

    let text = "[broker]\nservers = [\"nats://canary:canary@host\"]\ntoken_file = \"canary\"\n[[account]]\niban = \"canary\"\n";
    let told = refused(text);
    assert!(!told.contains("canary") && told.lines().count() == 3, "{told}");
}

#[test]
fn lanes_share_neither_names_nor_consumers_nor_schemes() {
    let text = r#"
[[lane]]
name = "fast-lane"
consumer = "c"
schemes = ["sct-inst"]
[[lane]]
name = "Fast_Lane"
consumer = "c"
schemes = ["sct", "sct-inst"]
"#;
    let told = refused(text);
    let rules: Vec<&str> = told.lines().filter_map(|line| line.split(": ").nth(1)).collect();
    assert!(rules.iter().any(|rule| rule.starts_with("must differ from lane fast-lane by more than case")), "{told}");
    assert!(rules.iter().any(|rule| rule.starts_with("must not be the consumer of lane fast-lane")), "{told}");
    assert!(rules.iter().any(|rule| rule.starts_with("must not name a scheme of lane fast-lane")), "{told}");
}

#[test]
fn a_lane_without_a_name_is_told_with_the_line_of_its_table() {
    let told = refused("[[lane]]\nslots = 1\n");
    assert!(told.starts_with("lane.1.name (acquit.toml:1): must be 1 to 64 characters"), "{told}");
    assert!(refused("lane = [1]\n").contains("write it as [[lane]]"));
    assert!(refused("store = 1\n").contains("write it as [store]"));
}

#[test]
fn a_scheme_of_the_file_is_served_by_the_lane_that_names_it() {
    let text = r#"
[[lane]]
name = "us"
schemes = ["fednow", "book"]
[[scheme]]
name = "fednow"
time_zone = "America/New_York"
currencies = ["USD"]
maximum = "1000000"
require_names = true
"#;
    let config = load(text, &[], &[]).unwrap();
    let lane = config.lanes.first().unwrap();
    let names: Vec<&str> = lane.rules.schemes().iter().map(|scheme| scheme.name.as_str()).collect();
    assert_eq!(names, ["fednow", "book"]);
}

#[test]
fn a_database_is_named_without_its_password_and_not_beside_a_file() {
    let config = load("[store]\nurl = \"postgres://u@db.example/d\"\nschema = \"fleet\"\n", &[], &[]).unwrap();
    let Place::Postgres { settings, marker } = &config.store.place else { panic!("{:?}", config.store) };
    assert_eq!((settings.schema.as_str(), settings.allow_plaintext), ("fleet", false));
    assert_eq!((settings.statement_timeout.as_secs(), marker.as_path()), (5, Path::new("acquit.suspect")));
    assert!(!format!("{:?}", config.store).contains("db.example"));
    let kept = load("[store]\nurl = \"postgres://u@db.example/d\"\nkeep = \"9600h\"\n", &[], &[]).unwrap();
    assert_eq!(kept.store.keep.unwrap().as_secs(), 9_600 * 3_600);
    let told = refused(
        "[store]\npath = \"a.db\"\nurl = \"postgres://u:canary@db/d\"\nschema = \"pg_x\"\nstatement_timeout = \"1h\"\n",
    );
    let expected = "\
store.url (acquit.toml:3): must be an address of PostgreSQL (it holds a password); put the password into a file and name it in store.password_file
store.url (acquit.toml:3): must be the only place of the store, but path is given too; take out store.path or store.url
store.schema (acquit.toml:4): must be at most 63 lower-case letters, digits and _, not beginning with a digit or pg_; write \"acquit\" for instance
store.statement_timeout (acquit.toml:5): must be a duration from 100ms to 1m; write it with units, such as \"250ms\", \"2s\" or \"1m30s\"";
    let mut lines: Vec<&str> = told.lines().collect();
    let mut wanted: Vec<&str> = expected.lines().collect();
    lines.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(lines, wanted);
    let file = tempfile::NamedTempFile::new().unwrap();
    let told = refused(&format!("[store]\nca_file = {0:?}\npassword_file = {0:?}\n", file.path()));
    assert!(
        told.lines().count() == 2 && told.lines().all(|line| line.contains("must come together with url")),
        "{told}"
    );
}

#[test]
fn half_a_login_and_two_logins_are_refused() {
    assert!(refused("[broker]\nuser = \"u\"\n").contains("broker.user (acquit.toml:2): must come together"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let text = format!("[broker]\ntoken_file = {file:?}\nnkey_seed_file = {file:?}\n");
    assert!(refused(&text).contains("must be the only way to log in"));
}

#[test]
fn traces_are_off_without_an_endpoint_and_go_over_plain_http_without_a_password() {
    assert_eq!(load("", &[], &[]).unwrap().traces, None);
    let text = "[telemetry]\notlp_endpoint = \"http://127.0.0.1:4318\"\nsampling_ratio = 0.25";
    let traces = load(text, &[], &[]).unwrap().traces.unwrap();
    assert_eq!((traces.endpoint.as_str(), traces.ratio), ("http://127.0.0.1:4318/", 0.25));
    for bad in
        ["https://collector:4318", "127.0.0.1:4318", "http://me:hunter2@collector:4318", "http://c:4318?k=hunter2"]
    {
        let told = refused(&format!("[telemetry]\notlp_endpoint = \"{bad}\""));
        assert!(told.contains("telemetry.otlp_endpoint") && !told.contains("hunter2"), "{told}");
    }
    assert!(refused("[telemetry]\nsampling_ratio = 1.5").contains("from 0 to 1"));
}

#[test]
fn what_is_not_toml_is_told_with_its_line() {
    let told = refused("[store]\npath = \n");
    assert!(told.starts_with("file (acquit.toml:2): is not TOML"), "{told}");
}

#[test]
fn a_named_file_that_is_not_there_is_refused() {
    let sources = Sources { file: Some("/nowhere/acquit.toml".into()), ..Sources::default() };
    let told = Config::load(sources).unwrap_err().to_string();
    assert!(told.starts_with("file (/nowhere/acquit.toml:1): cannot be read"), "{told}");
}

#[test]
fn the_example_loads_as_it_is_and_means_the_defaults() {
    let config = load(&Config::example(), &[], &[]).unwrap();
    let defaults = load("", &[], &[]).unwrap();
    let values = |config: &Config| -> Vec<(String, String)> {
        config.print().iter().map(|value| (value.key.clone(), value.value.clone())).collect()
    };
    assert_eq!(values(&config), values(&defaults));
}

#[test]
fn every_key_of_the_example_is_known_also_where_it_is_commented_out() {
    let uncommented: Vec<String> = Config::example()
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest)
                if rest.starts_with("[[") || rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) =>
            {
                rest.to_owned()
            }
            _ => line.to_owned(),
        })
        .collect();
    let told = refused(&uncommented.join("\n"));
    assert!(!told.contains("is no key") && !told.contains("is not TOML"), "{told}");
}

#[test]
fn the_files_of_deploy_load_and_keep_the_defaults_they_do_not_name() {
    let folder = tempfile::tempdir().unwrap();
    // What the machine they are for has in /run/secrets.
    let secret = folder.path().join("secret");
    fs::write(&secret, "x").unwrap();
    let secret = secret.display().to_string();
    for (name, over_tls) in [("deploy/acquit.toml", false), ("deploy/kubernetes/base/acquit.toml", true)] {
        let mut keys = vec![("broker.password_file", secret.as_str())];
        if over_tls {
            keys.extend(
                ["broker.ca_file", "broker.client_cert_file", "broker.client_key_file"].map(|key| (key, &*secret)),
            );
        }
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let config = Config::load(Sources { file: Some(file), env: Vec::new(), flags: pairs(&keys) })
            .unwrap_or_else(|errors| panic!("{name}:\n{errors}"));
        assert_eq!(config.broker.require_tls, over_tls, "{name}");
        assert_eq!(config.store.place, Place::File("/var/lib/acquit/acquit.db".into()), "{name}");
        assert_eq!((config.lanes.len(), config.log.format), (1, LogFormat::Json), "{name}");
        // Off loopback the address comes from a variable of the deployment.
        assert!(config.ops.listen.ip().is_loopback(), "{name}");
    }
}

#[test]
fn a_debtors_daily_limits_are_amounts_of_their_currencies() {
    let config = load("", &[("ACQUIT_LANE_PAYMENTS_DEBTOR_DAILY_LIMITS", "EUR=10000.00, JPY=500")], &[]).unwrap();
    let limits = config.lanes[0].rules.debtor_daily_limits();
    let minor: Vec<_> = limits.iter().map(|limit| (limit.currency().code(), limit.minor())).collect();
    assert_eq!(minor, [("EUR", 1_000_000), ("JPY", 500)]);
    assert!(load("", &[], &[]).unwrap().lanes[0].rules.debtor_daily_limits().is_empty());

    let said = refused(
        "[[lane]]\nname = \"a\"\ndebtor_daily_limits = [\"EUR=1.001\", \"EUR=0\", \"XXX=1\", \"5\", \"USD=-1\"]",
    );
    assert_eq!(said.matches("lane.a.debtor_daily_limits").count(), 5, "{said}");
    let said = refused("[[lane]]\nname = \"a\"\ndebtor_daily_limits = [\"EUR=1\", \"EUR=2\"]");
    assert!(said.contains("must not name EUR twice"), "{said}");
}
