//! Several servers as one JetStream cluster on loopback.

use std::path::Path;
use std::time::Duration;

use super::{NatsOptions, NatsServer, ServerError, find, ports};

/// A cluster has to elect a leader first.
const READY: Duration = Duration::from_secs(60);

/// A running cluster; dropping it kills its servers.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<NatsServer>,
}

impl Cluster {
    /// Starts `size` servers (3 or 5) in `dir/n1`, `dir/n2`, ... and waits until all know a JetStream leader.
    pub async fn start(size: usize, dir: &Path, options: &NatsOptions) -> Result<Self, ServerError> {
        let program = find::nats_server().await?;
        let mut routes = Vec::with_capacity(size);
        for _ in 0..size {
            routes.push(ports::free()?);
        }
        let urls: Vec<String> = routes.iter().map(|p| format!("\"nats-route://127.0.0.1:{p}\"")).collect();
        let mut nodes = Vec::with_capacity(size);
        for (route, number) in routes.iter().zip(1..) {
            let mut node: NatsOptions = options.clone();
            node.dir = dir.join(format!("n{number}"));
            node.extra = format!(
                "{}\ncluster {{ name: lab, listen: \"127.0.0.1:{route}\", routes: [{}] }}",
                options.extra,
                urls.join(", ")
            );
            let mut server = NatsServer::prepared(program.clone(), node, ports::free()?)?;
            server.launch()?;
            nodes.push(server);
        }
        for node in &mut nodes {
            node.wait_ready(READY).await?;
        }
        Ok(Self { nodes })
    }

    /// What a client connects to: every server, as a list.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(NatsServer::url).collect()
    }

    /// The servers, in order.
    #[must_use]
    pub fn nodes(&self) -> &[NatsServer] {
        &self.nodes
    }

    /// One server, to kill, freeze or restart; `None` beyond the last.
    pub fn node_mut(&mut self, index: usize) -> Option<&mut NatsServer> {
        self.nodes.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn three_servers_agree_and_survive_the_kill_of_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = Cluster::start(3, dir.path(), &NatsOptions::new(dir.path())).await.unwrap();
        assert_eq!(cluster.urls().len(), 3);
        let node = cluster.node_mut(1).unwrap();
        node.kill9().unwrap();
        node.restart().await.unwrap();
    }
}
